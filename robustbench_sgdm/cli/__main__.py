"""`python -m robustbench_sgdm.cli`: the command where the console script is not on the path."""

from robustbench_sgdm.cli import main

if __name__ == "__main__":
    main()
