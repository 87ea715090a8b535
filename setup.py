"""Metadata and console scripts are in setup.cfg."""
from setuptools import setup

setup()
