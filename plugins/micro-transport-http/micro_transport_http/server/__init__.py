"""The service's side: listeners, their connections and the requests that arrive on them."""
