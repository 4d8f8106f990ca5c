"""`threadbus import` and `threadbus export`: move conversations in and out."""
