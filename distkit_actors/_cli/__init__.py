"""The command line, ``distkit-actors``. Needs click and rich: the extra ``cli``."""
