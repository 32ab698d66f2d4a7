#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Goal: the completion script for bash completes commands, options, choices, verbs and files.
Method: a real bash loads it and completes.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))

from cli import run_cli  # noqa: E402
from oracle import expect, expect_equal, tool  # noqa: E402

HARNESS = r'''
compopt() { :; }
source ./completion
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_liveblk liveblk "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}"
'''


def test(box, cli):
    with open(os.path.join(box.path, 'completion'), 'w', encoding='utf-8') as f:
        f.write(cli('help', '--completion=bash'))
    with open(os.path.join(box.path, 'disk one.qcow2'), 'w', encoding='utf-8') as f:
        f.write('')

    def complete(*words):
        return [w.strip() for w in tool(box, 'bash', '-c', HARNESS, 'bash', 'liveblk', *words).split('\n') if w.strip()]

    expect_equal(complete('conv'), ['convert'], 'commands')
    expect(set(complete('')) >= {'create', 'info', 'mirror', 'job', 'jobs', '--help'}, 'all commands')
    expect_equal(complete('mirror', '--piv'), ['--pivot'], 'options')
    expect_equal(complete('mirror', '--spe'), ['--speed='], 'options with a value')
    expect(set(complete('mirror', '--')) >= {'--sync=', '--control=', '--output=', '--help'}, 'all options')
    expect_equal(complete('mirror', '--sync', ''), ['full', 'top', 'none'], 'choices')
    # readline splits at =
    expect_equal(complete('mirror', '--sync', '=', 't'), ['top'], 'choices behind =')
    expect_equal(complete('mirror', '--sync', '='), ['full', 'top', 'none'], 'all choices behind =')
    expect_equal(complete('info', '--output', '=', 'j'), ['json'], 'common options')
    expect_equal(complete('job', 'p'), ['pause'], 'verbs')
    expect_equal(complete('help', 'mi'), ['mirror'], 'help')
    expect_equal(complete('info', 'disk'), ['disk one.qcow2'], 'files')
    expect_equal(complete('serve', '--socket', '=', 'disk'), ['disk one.qcow2'], 'files of options')
    expect_equal(complete('create', '-f', 'q'), ['qcow2'], 'formats')
    for shell in 'zsh', 'fish':
        text = cli('help', '--completion=' + shell)
        expect(all(w in text for w in ('mirror', 'pivot', 'convert')), shell)
        with open(os.path.join(box.path, shell), 'w', encoding='utf-8') as f:
            f.write(text)
        if os.path.exists('/usr/bin/' + shell):
            tool(box, shell, '-n', shell)
    if os.path.exists('/usr/bin/fish'):
        text = tool(box, 'fish', '-c', 'source ./fish; complete -C "liveblk mirror --sync="; complete -C "liveblk conv"')
        expect('--sync=top' in text and 'convert' in text, text)


run_cli(test)
