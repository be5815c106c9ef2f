"""Names that can be said aloud, for flow runs: two words such as ``great-ammonite``, read off the run's id.

Nothing is stored: any reader of a journal computes the same name from the same id. The lists are part of the interface,
because people write names down. They never change; a test pins them.

Each word stands for one byte, so a name says the first four hex digits of an id and 65,536 of them exist: enough to
tell the runs of a week apart, too few to be unique. Where two runs share one, the digits of the id decide. The words
are short and friendly in any pair; no two of a list can be mistaken for each other, heard or misspelt by one letter.
"""

from __future__ import annotations

from typing import Final

ADJECTIVES: Final = tuple(
    """
    able active adept agile alert amber ample amused arctic artful astute atomic aware balanced balmy bold brave
    brisk bronze bubbly busy calm candid capable cheerful chirpy civic classic clear clever cloudy coastal copper
    coral cordial cosmic crafty crimson crisp curious curly daily dainty dapper dazzling decent deluxe devoted
    diligent direct distant dutiful eager early earnest elated elegant endless epic equal exact expert fabled fair
    faithful famous fancy fearless festive flowing fluent fond formal frank fresh friendly frosty frugal gallant
    generous genial gentle genuine gifted giving glad gleaming global glossy golden grand grateful great groovy
    happy hardy hearty helpful heroic honest hopeful humble icy ideal immense intrepid inventive jaunty jazzy jolly
    jovial joyful jubilant kind lasting lavish leafy level local lofty logical lucid luminous lunar magic magnetic
    majestic maple marine mellow merry mild mindful modern modest musical natural nautical neat nimble noble notable
    novel optimal orange orderly outgoing pacific pastel patient peaceful peppy perfect placid playful pleasant
    plucky poetic polished polite popular practical precise pristine prompt proper proud prudent purple quaint quick
    radiant rapid refined regal relaxed reliable robust rosy royal ruby rugged rustic satin scarlet scenic secure
    serene sharp shiny silent silken silver simple sincere skilled sleek smart smiling smooth snappy snowy snug
    social solar solid sparkling special spirited splendid spry stable starry stellar still stoic strong sturdy
    stylish sublime sunlit sunny superb swift tactful talented tall tangy thankful thorough thrifty timely tireless
    tranquil tropical trusty unique united upbeat useful valiant valued vast velvet verdant vibrant vital vivid warm
    welcome whole windy wise wooden worthy zesty
    """.split()
)

NOUNS: Final = tuple(
    """
    acorn agate album almond alpaca ammonite anchor antelope apple apricot arrow aspen aster atlas aurora avenue
    avocado badger bagel balloon bamboo banjo banner barn basil basket bell bicycle bison blanket blossom boat
    bonfire bottle boulder bridge brook button cactus camera canary candle canoe canvas canyon castle cedar cello
    cheetah chimney chipmunk cinnamon clarinet cliff cloud clover cobalt comet compass condor cookie cottage coyote
    crane crater creek cricket crystal daffodil dahlia daisy dawn delta desert dolphin domino dove dragon eagle echo
    elm ember falcon feather fern fiddle field finch flamingo flute forest fossil galaxy garden gazelle gecko
    giraffe glacier glade granite grape grove guitar gull hammock harp hawk hedgehog heron hickory hill horizon
    iceberg iris island ivy jaguar jasmine jigsaw juniper kayak kettle kite koala lagoon lantern larch laurel lava
    lemon leopard lilac lily lime linden lion lotus magnet magpie mallard mango marble marigold meadow melody meteor
    mimosa mirror mitten moon mosaic mountain mulberry nebula nectar oak oasis ocean olive opal orbit orchard orchid
    osprey otter owl palm panda parrot parsley pasture pebble pelican pencil penguin pepper petal petunia piano pine
    planet plaza plum poem pond prairie prism puffin pumpkin puzzle pyramid quail quartz quilt rabbit radio rainbow
    raven reef ribbon river robin rocket rose rowan saffron salmon sapling satchel scarf skylark sloop sonata
    sparrow spruce squirrel star starfish stream summit sundial sunset swan teapot thicket thimble thistle thunder
    tiger timber toffee tomato topaz tortoise toucan trail tulip tundra turtle umbrella unicorn valley village
    violin volcano waffle walnut walrus waterfall willow window wombat woodland wren zebra zenith
    """.split()
)


def spoken(key: bytes) -> str:
    """What a run is called whose id is `key` (16 bytes), unless it has a name of its own."""
    return f"{ADJECTIVES[key[0]]}-{NOUNS[key[1]]}"


def digits_of(name: str) -> str | None:
    """The first four hex digits of the ids that a spoken name stands for; None if `name` is no such name."""
    adjective, _, noun = name.strip().lower().partition("-")
    if adjective not in ADJECTIVES or noun not in NOUNS:
        return None
    return f"{ADJECTIVES.index(adjective):02x}{NOUNS.index(noun):02x}"
