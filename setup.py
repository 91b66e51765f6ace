"""Entry point of the build; everything is declared in setup.cfg."""

from setuptools import setup

setup()
