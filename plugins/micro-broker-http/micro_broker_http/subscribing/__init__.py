"""The subscribing side: the listener, and the inboxes of the subscriptions."""
