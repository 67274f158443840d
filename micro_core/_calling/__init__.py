"""Whether and where a call goes: discovery, the nodes of a service, their health, and retries."""
