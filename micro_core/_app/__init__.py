"""What a program holds: the client, typed proxies, handlers, subscribers, and parts made from settings."""
