"""RobustBench-SGDM: does a detector survive noise, and does a module help?"""

__version__ = "0.1.0"
