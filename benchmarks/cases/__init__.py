"""The cases of `make bench`: each measures one thing and says whether its bars are met."""
