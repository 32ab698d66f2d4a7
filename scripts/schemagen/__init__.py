# SPDX-License-Identifier: MIT
"""Reads the schema (src/schema/README.md tells its format) and writes what comes from it."""
