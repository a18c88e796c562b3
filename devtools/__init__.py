"""What dev.py is made of: child processes, the environment, servers. Standard library only."""
