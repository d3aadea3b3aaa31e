"""Arithmetic word problems with worked solutions."""
