"""Where work units run: threads of this process, other processes of this machine, or a Ray cluster."""
