#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""list.py: the names of the tests in a folder, for meson: list.py FOLDER SUFFIX"""
import os
import sys

here = os.path.dirname(os.path.abspath(__file__))
folder, suffix = sys.argv[1:]
for name in sorted(os.listdir(os.path.join(here, folder))):
    if name.endswith(suffix):
        print(name[:-len(suffix)])
