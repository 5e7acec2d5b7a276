"""Campaigns: commands of the program under injected faults, kills and damage, counted."""
