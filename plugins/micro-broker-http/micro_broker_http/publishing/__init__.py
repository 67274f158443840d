"""The publishing side: outboxes for the subscribers of each topic, and what empties them by POST."""
