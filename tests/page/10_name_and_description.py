@task(name="hello-task", description="This task says hello.")
def my_task():
    print("Hello, I'm a task")
