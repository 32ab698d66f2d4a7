# SPDX-License-Identifier: MIT
"""The schema in memory: parser and checks."""
import re


class SchemaError(Exception):
    """A mistake in a schema file, with its place."""


# Builtin types: C type, JSON type in introspection, sign, bits.
BUILTINS = {
    'str': ('char *', 'string', None, 0), 'bool': ('bool', 'boolean', None, 0),
    'number': ('double', 'number', None, 0), 'null': ('void *', 'null', None, 0),
    'any': ('QDict *', 'value', None, 0),
    'int': ('int64_t', 'int', True, 64), 'size': ('uint64_t', 'int', False, 64),
}
for _bits in (8, 16, 32, 64):
    BUILTINS['int%d' % _bits] = ('int%d_t' % _bits, 'int', True, _bits)
    BUILTINS['uint%d' % _bits] = ('uint%d_t' % _bits, 'int', False, _bits)

RESERVED = set('auto break case char const continue default do double else enum extern float for goto if '
               'inline int long register restrict return short signed sizeof static struct switch typedef '
               'union unsigned void volatile while asm typeof unix linux errno and or not'.split())


def c_name(name):
    name = re.sub(r'[^A-Za-z0-9_]', '_', name)
    return 'q_' + name if name in RESERVED or name[0].isdigit() else name


def c_upper(name):
    """MirrorSyncMode -> MIRROR_SYNC_MODE, x-y -> X_Y"""
    name = re.sub(r'([a-z0-9])([A-Z])', r'\1_\2', name)
    name = re.sub(r'([A-Z])([A-Z][a-z])', r'\1_\2', name)
    return re.sub(r'[^A-Za-z0-9]', '_', name).upper()


class Type:
    """A reference to a type: its entity's or builtin's name, and whether a list of it."""

    def __init__(self, name, is_list=False):
        self.name, self.is_list = name, is_list

    @property
    def builtin(self):
        return self.name in BUILTINS


class Member:
    def __init__(self, name, type_, optional, default, features, doc, where):
        self.name, self.type, self.optional = name, type_, optional
        self.default, self.features, self.doc, self.where = default, features, doc, where
        self.c_name = c_name(name)


class Entity:
    def __init__(self, kind, name, doc, where):
        self.kind, self.name, self.doc, self.where = kind, name, doc, where
        self.members = []       # own members, enum values, alternate branches
        self.cases = []         # Member: union variants
        self.base = None        # struct: name of its base
        self.tag = None         # union: name of the discriminator
        self.boxed = None       # command, event: name of the type of its arguments
        self.returns = None     # command: Type
        self.returns_json = False   # command: its handler gives the JSON of `returns`
        self.flags = set()
        self.features = []
        self.target = None      # alias


class Schema:
    """All entities, in order."""

    def __init__(self):
        self.entities = {}

    def parse(self, path, text):
        _Parser(self, path, text).run()

    def all(self, *kinds):
        return [e for e in self.entities.values() if e.kind in kinds]

    def members(self, entity):
        """Members of a struct, union, command or event with those of its base first."""
        if entity.boxed:
            return self.members(self.entities[entity.boxed])
        base = self.members(self.entities[entity.base]) if entity.base else []
        return base + entity.members

    def cases(self, union):
        """(enum value, struct name or None) for every value of the tag."""
        tag = next(m for m in self.members(union) if m.name == union.tag)
        named = {c.name: c.type.name for c in union.cases}
        return [(v.name, named.get(v.name)) for v in self.entities[tag.type.name].members]

    def check(self):
        for e in self.entities.values():
            self._check_entity(e)

    def _check_entity(self, e):
        for name in filter(None, (e.base, e.boxed, e.target)):
            if name not in self.entities:
                raise SchemaError(f'{e.where}: {name} is not defined')
        if e.returns:
            self._check_type(e.returns, e.where)
        if e.kind == 'enum':
            return
        seen = set()
        for m in self.members(e) if e.kind != 'alternate' else e.members:
            if m.name in seen:
                raise SchemaError(f'{m.where}: {m.name} appears twice')
            seen.add(m.name)
            self._check_type(m.type, m.where)
            self._check_default(m)
        if e.kind == 'union':
            tag = next((m for m in self.members(e) if m.name == e.tag), None)
            if not tag or tag.optional or tag.type.builtin or self.entities[tag.type.name].kind != 'enum':
                raise SchemaError(f'{e.where}: {e.tag} must be a member that is an enum and not optional')
            values = {v.name for v in self.entities[tag.type.name].members}
            for c in e.cases:
                if c.name not in values:
                    raise SchemaError(f'{c.where}: {c.name} is not a value of {tag.type.name}')
                if self.entities.get(c.type.name, e).kind != 'struct':
                    raise SchemaError(f'{c.where}: {c.type.name} is not a struct')

    def _check_type(self, t, where):
        if t.builtin:
            return
        if t.name not in self.entities or self.entities[t.name].kind in ('command', 'event', 'alias'):
            raise SchemaError(f'{where}: {t.name} is not a type')

    def _check_default(self, m):
        if m.default is None:
            return
        if m.type.is_list or m.type.name in ('str', 'any', 'null'):
            raise SchemaError(f'{m.where}: no default possible for this type')
        if not m.type.builtin:
            e = self.entities[m.type.name]
            if e.kind != 'enum' or m.default not in [v.name for v in e.members]:
                raise SchemaError(f'{m.where}: {m.default} is not a value of {m.type.name}')
        elif m.type.name == 'bool':
            if m.default not in ('true', 'false'):
                raise SchemaError(f'{m.where}: true or false, not {m.default}')
        else:
            float(m.default) if m.type.name == 'number' else int(m.default)


HEAD = re.compile(r'^(enum|struct|union|alternate|command|event|alias)\s+([A-Za-z_][\w-]*)\s*(.*)$')
MEMBER = re.compile(r'^([A-Za-z_][\w-]*):\s*(\[)?([A-Za-z]\w*)(\])?(\?)?\s*(?:=\s*([\w.+-]+))?\s*(?:\[([\w, -]+)\])?$')
VALUE = re.compile(r'^([A-Za-z0-9_][\w-]*)\s*(?:\[([\w, -]+)\])?$')


class _Parser:
    def __init__(self, schema, path, text):
        self.schema, self.path, self.lines = schema, path, text.split('\n')
        self.entity, self.last, self.in_cases, self.doc = None, None, False, []

    def fail(self, message):
        raise SchemaError(f'{self.path}:{self.number}: {message}')

    @property
    def where(self):
        return f'{self.path}:{self.number}'

    def run(self):
        for self.number, line in enumerate(self.lines, 1):
            indent = len(line) - len(line.lstrip(' '))
            text = line.strip()
            if not text:
                self.entity = None
            elif text.startswith('##'):
                self.doc.append(text[2:].strip())
            elif text.startswith('#'):
                continue
            elif indent == 0:
                self.head(text)
            elif self.entity is None:
                self.fail('a member without an entity')
            elif indent == 2 and text == 'cases':
                self.in_cases = True
            elif indent == 4:
                self.member(text)
            elif self.last is not None:
                self.last.doc += ' ' + text
            else:
                self.fail('wrong indentation')

    def head(self, text):
        m = HEAD.match(text)
        if not m:
            self.fail('not understood: ' + text)
        kind, name, rest = m.groups()
        if name in self.schema.entities:
            self.fail(f'{name} is defined twice')
        if not self.doc and kind != 'alias':
            self.fail(f'{name} has no documentation')
        e = Entity(kind, name, ' '.join(self.doc), self.where)
        self.doc, self.last, self.in_cases, self.entity = [], None, False, e
        self.schema.entities[name] = e
        self.head_rest(e, rest.split())

    def head_rest(self, e, words):
        while words:
            w = words.pop(0)
            if w == ':' and e.kind == 'struct':
                e.base = words.pop(0)
            elif w == 'by' and e.kind == 'union':
                e.tag = words.pop(0)
            elif w == '=' and e.kind == 'alias':
                e.target = words.pop(0)
            elif w == '->' and e.kind == 'command':
                t = words.pop(0)
                if t == 'any':
                    e.returns_json, t = True, words.pop(0)
                e.returns = Type(t.strip('[]'), t.startswith('['))
            elif w.startswith('(') and w.endswith(')') and e.kind in ('command', 'event'):
                e.boxed = w[1:-1]
            elif w.startswith('['):
                e.features += [f for f in w.strip('[],').split(',') if f]
                while not w.endswith(']'):
                    w = words.pop(0)
                    e.features.append(w.strip('],'))
            elif w in ('oob', 'preconfig', 'coroutine') and e.kind == 'command':
                e.flags.add(w)
            else:
                self.fail('not understood: ' + w)
        if e.kind == 'union' and not e.tag:
            self.fail('a union needs "by MEMBER"')

    def member(self, text):
        text, _, doc = (part.strip() for part in text.partition('--'))
        e = self.entity
        if e.kind == 'enum':
            m = VALUE.match(text)
            if not m:
                self.fail('not a value: ' + text)
            self.last = Member(m[1], None, False, None, _features(m[2]), doc, self.where)
        else:
            m = MEMBER.match(text)
            if not m or bool(m[2]) != bool(m[4]):
                self.fail('not a member: ' + text)
            self.last = Member(m[1], Type(m[3], bool(m[2])), bool(m[5]) or m[6] is not None, m[6],
                               _features(m[7]), doc, self.where)
        if not doc and not self.in_cases:
            self.fail(f'{m[1]} has no documentation')
        (e.cases if self.in_cases else e.members).append(self.last)


def _features(text):
    return [f.strip() for f in text.split(',')] if text else []
