"""The guided fuzzer is a program, and needs atheris."""

collect_ignore = ["guided.py"]
