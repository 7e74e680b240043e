"""Crossbars: tiles, layers, periphery, mapping."""
