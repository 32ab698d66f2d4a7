# SPDX-License-Identifier: MIT
"""What query-qmp-schema returns: as the field's clients expect it, types under numbers."""
import json

from .model import BUILTINS, Type


class _Introspection:
    def __init__(self, schema):
        self.s, self.used, self.names, self.out = schema, [], {}, []
        self.q_empty = ('empty', '')

    def run(self):
        for e in self.s.entities.values():
            if e.kind in ('command', 'event'):
                self.command_or_event(e)
        for key in self.used:           # grows meanwhile
            self.type_info(key)
        return self.out

    def use(self, key):
        if key not in self.names:
            kind, name = key
            if kind == 'builtin':
                self.names[key] = name
            elif kind == 'list':
                self.names[key] = None
            else:
                self.names[key] = str(sum(1 for k in self.used if k[0] not in ('builtin', 'list')))
            self.used.append(key)
        if key[0] == 'list':
            return '[' + self.use(self.element_key(key)) + ']'
        return self.names[key]

    def key(self, t):
        if t.is_list:
            return ('list', t.name)
        if t.builtin:
            json_type = BUILTINS[t.name][1]
            return ('builtin', {'int': 'int', 'string': 'str', 'boolean': 'bool', 'value': 'any'}.get(json_type, json_type))
        return ('entity', t.name)

    def element_key(self, key):
        return self.key(Type(key[1]))

    def command_or_event(self, e):
        if e.boxed:
            arg = self.use(('entity', e.boxed))
        elif e.members:
            arg = self.use(('args', e.name))
        else:
            arg = self.use(self.q_empty)
        info = {'name': e.name, 'meta-type': e.kind, 'arg-type': arg}
        if e.kind == 'command':
            info['ret-type'] = self.use(self.key(e.returns) if e.returns else self.q_empty)
            if 'oob' in e.flags:
                info['allow-oob'] = True
        self.add(info, e.features)

    def add(self, info, features=()):
        if features:
            info['features'] = list(features)
        self.out.append(info)

    def type_info(self, key):
        kind, name = key
        info = {'name': self.use(key)}
        if kind == 'builtin':
            t = {'str': 'string', 'bool': 'boolean', 'any': 'value'}.get(name, name)
            self.add({**info, 'meta-type': 'builtin', 'json-type': t})
        elif kind == 'list':
            self.add({**info, 'meta-type': 'array', 'element-type': self.use(self.element_key(key))})
        elif kind == 'empty':
            self.add({**info, 'meta-type': 'object', 'members': []})
        else:
            self.entity_info(info, self.s.entities[name])

    def entity_info(self, info, e):
        if e.kind == 'enum':
            members = [{'name': v.name, **({'features': v.features} if v.features else {})} for v in e.members]
            info.update({'meta-type': 'enum', 'members': members, 'values': [v.name for v in e.members]})
        elif e.kind == 'alternate':
            info.update({'meta-type': 'alternate', 'members': [{'type': self.use(self.key(m.type))} for m in e.members]})
        else:
            info.update({'meta-type': 'object', 'members': [self.member(m) for m in self.s.members(e)]})
            if e.kind == 'union':
                info['tag'] = e.tag
                info['variants'] = self.variants(e)
        self.add(info, e.features if e.kind not in ('command', 'event') else ())

    def member(self, m):
        out = {'name': m.name, 'type': self.use(self.key(m.type))}
        if m.optional:
            out['default'] = None
        if m.features:
            out['features'] = m.features
        return out

    def variants(self, e):
        named = [c.name for c in e.cases]
        cases = sorted(self.s.cases(e), key=lambda c: named.index(c[0]) if c[0] in named else len(named))
        return [{'case': v, 'type': self.use(('entity', s) if s else self.q_empty)} for v, s in cases]


def source(schema):
    text = json.dumps(_Introspection(schema).run())
    chunks = [text[i:i + 100] for i in range(0, len(text), 100)]
    lines = ['    ' + json.dumps(c) for c in chunks]
    return '\n'.join(['/* SPDX-License-Identifier: MIT */',
                      '/* qapi-introspect.c: the reply to query-qmp-schema. Generated from the schema; do not edit. */',
                      '#include "base/osdep.h"', '', 'extern const char qapi_introspection[];',
                      'const char qapi_introspection[] ='] + lines) + ';\n'
