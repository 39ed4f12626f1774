"""Figures of the report: plots by matplotlib, sheets of pictures by Pillow, in one plain style."""
