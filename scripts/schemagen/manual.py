# SPDX-License-Identifier: MIT
"""The reference manual of the protocol, in Markdown."""


def _type(m):
    t = f'[{m.type.name}]' if m.type.is_list else m.type.name
    return t if m.type.builtin else f'[`{t}`](#{m.type.name.lower()})'.replace('`[', '`[')


def _members(schema, e):
    out = []
    for m in schema.members(e) if e.kind != 'alternate' else e.members:
        notes = []
        if m.default is not None:
            notes.append(f'default `{m.default}`')
        elif m.optional:
            notes.append('optional')
        notes += m.features
        note = f' ({", ".join(notes)})' if notes else ''
        out.append(f'- `{m.name}`: {_type(m)}{note}. {m.doc}')
    for c in e.cases:
        out.append(f'- when `{e.tag}` is `{c.name}`: the members of [`{c.type.name}`](#{c.type.name.lower()})')
    return out


def _entity(schema, e):
    out = [f'### {e.name}', '', e.doc, '']
    if e.features:
        out += ['Features: ' + ', '.join(e.features) + '.', '']
    if e.kind == 'enum':
        out += [f'- `{v.name}`: {v.doc}' for v in e.members]
    elif e.boxed:
        out.append(f'Arguments: the members of [`{e.boxed}`](#{e.boxed.lower()}).')
    else:
        out += _members(schema, e)
    if e.returns:
        name = f'list of `{e.returns.name}`' if e.returns.is_list else f'`{e.returns.name}`'
        out += ['', f'Returns: {name}' + (f' ([type](#{e.returns.name.lower()})).' if not e.returns.builtin else '.')]
    return out + ['']


def text(schema):
    out = ['# Reference of the control protocol', '',
           'Generated from the schema. Each message is one JSON object in one line: ',
           '`{"execute": COMMAND, "arguments": {...}, "id": ANY}`, answered by `{"return": ..., "id": ...}` or ',
           '`{"error": {"class": ..., "desc": ...}, "id": ...}`; events come unasked.', '']
    for title, kinds in (('Commands', ['command']), ('Events', ['event']),
                         ('Types', ['enum', 'struct', 'union', 'alternate'])):
        out += [f'## {title}', '']
        for e in sorted(schema.all(*kinds), key=lambda e: e.name.lower()):
            out += _entity(schema, e)
    return '\n'.join(out)
