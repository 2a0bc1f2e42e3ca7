// The host includes this for a call in a file that is not compiled here.
