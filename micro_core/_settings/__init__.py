"""What is written in flags, environment, file and code, and how its texts are read."""
