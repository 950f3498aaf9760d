"""What tests of several shelves share."""
