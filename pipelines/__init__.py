"""The Kedro project package: the order of the steps. The steps themselves are in the library `d2v`."""
