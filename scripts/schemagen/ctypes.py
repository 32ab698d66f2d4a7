# SPDX-License-Identifier: MIT
"""C types: the public header block/qapi-types.h, and the tables the visitors work from."""
from .model import BUILTINS, c_name, c_upper

QTYPES = {'string': 'QTYPE_QSTRING', 'number': 'QTYPE_QNUM', 'int': 'QTYPE_QNUM', 'boolean': 'QTYPE_QBOOL',
          'null': 'QTYPE_QNULL', 'object': 'QTYPE_QDICT', 'array': 'QTYPE_QLIST'}

PREAMBLE = '''/* SPDX-License-Identifier: MIT */
/* qapi-types.h: the types of the control protocol. Generated from the schema; do not edit.
 *
 * Strings, structures and lists are pointers, NULL when absent. An optional number, bool or
 * enum X is valid if has_X; if not, X holds the documented default when there is one (in
 * structures that came from input; memory from g_new0() holds zeroes).
 * Unions: the tag says which member of u is valid. Alternates: type says it.
 * qapi_free_T frees a T with all that hangs below it; NULL is fine. qapi_clone_T copies it.
 */
#ifndef LIVEBLK_QAPI_TYPES_H
#define LIVEBLK_QAPI_TYPES_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "block/liveblk-export.h"
#include "block/qapi-visit.h"

/* Put @element before list @head. */
#define QAPI_LIST_PREPEND(head, element) do { \\
    __typeof__(head) qapi_l_ = g_new0(__typeof__(*(head)), 1); \\
    qapi_l_->value = (element); qapi_l_->next = (head); (head) = qapi_l_; } while (0)
/* Put @element at the end; @tail is a "FooList **" that begins as &head. */
#define QAPI_LIST_APPEND(tail, element) do { \\
    *(tail) = g_new0(__typeof__(**(tail)), 1); \\
    (*(tail))->value = (element); (tail) = &(*(tail))->next; } while (0)
'''


class CTypes:
    def __init__(self, schema, args):
        self.s = schema
        self.args = args        # entities made of commands' and events' own members

    # ---- names ----
    def kind(self, t):
        return 'builtin' if t.builtin else self.s.entities[t.name].kind

    def is_pointer(self, t):
        return t.is_list or (t.name in ('str', 'any', 'null') if t.builtin else self.kind(t) != 'enum')

    def ctype(self, t):
        if t.is_list:
            return c_name(t.name + 'List') + ' *'
        if t.builtin:
            return BUILTINS[t.name][0]
        return c_name(t.name) + ('' if self.kind(t) == 'enum' else ' *')

    def decl(self, t, name):
        c = self.ctype(t)
        return c + name if c.endswith('*') else f'{c} {name}'

    def objects(self):
        return self.s.all('struct', 'union', 'alternate')

    # ---- header ----
    def header(self):
        out = [PREAMBLE]
        for e in self.s.all('enum'):
            out += self.enum(e)
        for e in self.objects():
            out.append(f'typedef struct {e.name} {e.name};')
        for a in self.s.all('alias'):
            out.append(f'typedef {a.target} {a.name};')
        out.append('')
        for t in list(BUILTINS):
            if t != 'null':
                out += self.list_type(t, BUILTINS[t][0])
        for e in self.s.all('enum', 'struct', 'union', 'alternate'):
            out += self.list_type(e.name, e.name if e.kind == 'enum' else e.name + ' *')
        for e in self.sorted_objects():
            out += self.structure(e)
        for e in self.objects():
            out += self.functions(e)
        for a in self.s.all('alias'):
            out.append(f'typedef {a.target}List {a.name}List;')
        out += ['', '#endif', '']
        return '\n'.join(out)

    def enum(self, e):
        out = ['/* ' + e.doc + ' */', f'typedef enum {e.name} {{']
        for v in e.members:
            out.append(f'    {c_upper(e.name)}_{c_upper(v.name)},   /* {v.doc} */')
        out += [f'    {c_upper(e.name)}__MAX', f'}} {e.name};',
                f'LIVEBLK_PUBLIC extern const QapiType qapi_type_{e.name};',
                f'static inline const char *{e.name}_str({e.name} value)',
                f'{{ return qapi_enum_str(&qapi_type_{e.name}, value); }}', '']
        return out

    def list_type(self, name, ctype):
        n = name
        sep = '' if ctype.endswith('*') else ' '
        return [f'typedef struct {n}List {n}List;',
                f'struct {n}List {{ {n}List *next; {ctype}{sep}value; }};',
                f'LIVEBLK_PUBLIC extern const QapiType qapi_type_{n}List;',
                f'static inline void qapi_free_{n}List({n}List *l) {{ qapi_free(&qapi_type_{n}List, l); }}',
                f'G_DEFINE_AUTOPTR_CLEANUP_FUNC({n}List, qapi_free_{n}List)']

    def sorted_objects(self):
        """Structures that others embed by value come first."""
        done, out = set(), []

        def visit(e):
            if e.name in done:
                return
            done.add(e.name)
            for c in e.cases:
                visit(self.s.entities[c.type.name])
            out.append(e)
        for e in self.objects():
            visit(e)
        return out

    def structure(self, e):
        out = ['/* ' + e.doc + ' */', f'struct {e.name} {{']
        if e.kind == 'alternate':
            out += ['    QType type;', '    union {']
            out += ['        ' + self.decl(m.type, m.c_name) + f';   /* {m.doc} */' for m in e.members]
            out.append('    } u;')
        else:
            out += self.fields(self.s.members(e))
            if e.kind == 'union':
                out.append('    union {')
                out += [f'        {c.type.name} {c.c_name};' for c in e.cases]
                out.append('    } u;')
        if len(out) == 2:
            out.append('    char unused;')
        return out + ['};', '']

    def fields(self, members):
        out = []
        for m in members:
            if m.optional and not self.is_pointer(m.type):
                out.append(f'    bool has_{m.c_name};')
            out.append(f'    {self.decl(m.type, m.c_name)};   /* {m.doc} */')
        return out

    def functions(self, e):
        n = e.name
        return ['', f'LIVEBLK_PUBLIC extern const QapiType qapi_type_{n};',
                f'static inline void qapi_free_{n}({n} *v) {{ qapi_free(&qapi_type_{n}, v); }}',
                f'G_DEFINE_AUTOPTR_CLEANUP_FUNC({n}, qapi_free_{n})',
                f'static inline {n} *qapi_clone_{n}(const {n} *v) {{ return qapi_clone(&qapi_type_{n}, v); }}']

    # ---- tables ----
    def source(self):
        out = ['/* SPDX-License-Identifier: MIT */',
               '/* qapi-types.c: tables of the types. Generated from the schema; do not edit. */',
               '#include "base/osdep.h"', '#include "qapi-tables.h"', '']
        for t in BUILTINS:
            out += self.builtin_table(t)
        out += ['const QapiType qapi_type_any = { .kind = QAPI_ANY, .name = "any", .size = sizeof(QDict *) };',
                'const QapiType qapi_type_empty = { .kind = QAPI_STRUCT, .name = "empty", .size = 1 };']
        for e in self.s.all('enum'):
            out += self.enum_table(e)
        for e in self.objects() + self.args:
            out += self.object_table(e)
        for e in self.s.all('enum') + self.objects():
            out.append(self.list_table(e.name, e.name))
        return '\n'.join(out) + '\n'

    def tables_header(self):
        """Arguments of commands and data of events, which only generated code sees."""
        out = ['/* SPDX-License-Identifier: MIT */',
               '/* qapi-tables.h: arguments and data of events. Generated from the schema; do not edit. */',
               '#ifndef LIVEBLK_QAPI_TABLES_H', '#define LIVEBLK_QAPI_TABLES_H', '', '#include "qapi-commands.h"', '']
        for a in self.args:
            out += [f'typedef struct {a.name} {a.name};'] + self.structure(a)
            out.append(f'extern const QapiType qapi_type_{a.name};')
        out.append('extern const QapiType qapi_type_empty, qapi_type_any;')
        return '\n'.join(out + ['', '#endif', ''])

    def type_ref(self, t):
        if t.builtin and not t.is_list:
            return f'&type_{t.name}'
        return f'&qapi_type_{t.name}{"List" if t.is_list else ""}'

    def builtin_table(self, t):
        ctype, json, signed, bits = BUILTINS[t]
        kind = {'string': 'STR', 'boolean': 'BOOL', 'number': 'NUMBER', 'null': 'NULL', 'value': 'ANY',
                'int': 'INT' if signed else 'SIZE' if t == 'size' else 'UINT'}[json]
        out = [f'static const QapiType type_{t} __attribute__((unused)) = {{ .kind = QAPI_{kind}, .name = "{t}", '
               f'.size = sizeof({ctype.strip()}), .bits = {bits} }};']
        if t != 'null':
            out.append(self.list_table(t, t, 'type_'))
        return out

    @staticmethod
    def list_table(name, element, prefix='qapi_type_'):
        return (f'const QapiType qapi_type_{name}List = {{ .kind = QAPI_LIST, .name = "{name}List", '
                f'.size = sizeof({name}List), .element = &{prefix}{element} }};')

    def enum_table(self, e):
        values = ', '.join(f'"{v.name}"' for v in e.members)
        return [f'static const char *const values_{e.name}[] = {{ {values}, NULL }};',
                f'const QapiType qapi_type_{e.name} = {{ .kind = QAPI_ENUM, .name = "{e.name}", '
                f'.size = sizeof({e.name}), .values = values_{e.name}, .n_values = {len(e.members)} }};']

    def object_table(self, e):
        n, extra, members = e.name, '', []
        if e.kind == 'alternate':
            for m in e.members:
                json = BUILTINS[m.type.name][1] if m.type.builtin else \
                    'string' if self.kind(m.type) == 'enum' else 'object'
                members.append(f'    {{ .name = "{m.name}", .type = {self.type_ref(m.type)}, '
                               f'.qtype = {"QTYPE_QLIST" if m.type.is_list else QTYPES[json]} }},')
            extra = f', .u_offset = offsetof({n}, u)'
        else:
            members = [self.member_row(n, m) for m in self.s.members(e)]
        out = []
        if e.kind == 'union':
            rows = [f'&qapi_type_{s}' if s else 'NULL' for _, s in self.s.cases(e)]
            out.append(f'static const QapiType *const variants_{n}[] = {{ {", ".join(rows)} }};')
            tag = [m.name for m in self.s.members(e)].index(e.tag)
            extra = f', .variants = variants_{n}, .tag = {tag}, .u_offset = offsetof({n}, u)'
        if members:
            out += [f'static const QapiMember members_{n}[] = {{'] + members + ['};']
            extra += f', .members = members_{n}, .n_members = {len(members)}'
        kind = {'struct': 'STRUCT', 'union': 'UNION', 'alternate': 'ALTERNATE'}.get(e.kind, 'STRUCT')
        return out + [f'const QapiType qapi_type_{n} = {{ .kind = QAPI_{kind}, .name = "{n}", '
                      f'.size = sizeof({n}){extra} }};']

    def member_row(self, n, m):
        row = f'    {{ .name = "{m.name}", .type = {self.type_ref(m.type)}, .offset = offsetof({n}, {m.c_name})'
        if m.optional:
            row += ', .optional = true'
            if not self.is_pointer(m.type):
                row += f', .has_flag = true, .has_offset = offsetof({n}, has_{m.c_name})'
        if m.default is not None:
            row += f', .has_default = true, .def = {self.default(m)}'
        return row + ' },'

    def default(self, m):
        if not m.type.builtin:
            return f'{{ .i = {c_upper(m.type.name)}_{c_upper(m.default)} }}'
        if m.type.name == 'bool':
            return f'{{ .i = {m.default} }}'
        return f'{{ .n = {m.default} }}' if m.type.name == 'number' else f'{{ .i = {m.default} }}'
