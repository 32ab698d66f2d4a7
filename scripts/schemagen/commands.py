# SPDX-License-Identifier: MIT
"""Commands and events: handlers' prototypes, the dispatch table, event emitters."""
from .model import Entity, c_name


def camel(name):
    return ''.join(w[:1].upper() + w[1:] for w in name.replace('_', '-').split('-'))


def argument_structs(schema):
    """A struct for the members of each command and event that has its own."""
    out = []
    for e in schema.all('command', 'event'):
        if e.members:
            name = camel(e.name.lower() if e.kind == 'event' else e.name) + \
                ('Event' if e.kind == 'event' else 'Args')
            a = Entity('struct', name, f'{"Data" if e.kind == "event" else "Arguments"} of {e.name}.', e.where)
            a.members = e.members
            e.args_struct = name
            out.append(a)
        else:
            e.args_struct = e.boxed
    return out


class Commands:
    def __init__(self, schema, types):
        self.s, self.t = schema, types

    # ---- commands ----
    def params(self, e):
        """(declaration, value from `arg`) of each parameter of a handler."""
        if e.boxed:
            return [(f'{e.boxed} *arg', 'arg')]
        out = []
        for m in e.members:
            if m.optional and not self.t.is_pointer(m.type):
                out.append((f'bool has_{m.c_name}', f'arg->has_{m.c_name}'))
            const = 'const ' if m.type.name == 'str' and not m.type.is_list else ''
            out.append((const + self.t.decl(m.type, m.c_name), f'arg->{m.c_name}'))
        return out

    def prototype(self, e):
        ret = 'QDict *' if e.returns_json else self.t.ctype(e.returns) if e.returns else 'void'
        sep = '' if ret.endswith('*') else ' '
        args = ', '.join([p for p, _ in self.params(e)] + ['Error **errp'])
        return f'{ret}{sep}{"coroutine_fn " if "coroutine" in e.flags else ""}qmp_{c_name(e.name)}({args})'

    def header(self):
        out = ['/* SPDX-License-Identifier: MIT */',
               '/* qapi-commands.h: handlers of the commands. Generated from the schema; do not edit.',
               ' *',
               ' * A handler gets its checked arguments, lent, and returns what the command returns, owned by',
               ' * the caller, or sets *errp. Runs on the main thread, in a coroutine under the control lock;',
               ' * those marked coroutine_fn may suspend. Optional numbers and enums without a value hold',
               ' * their documented default.',
               ' */', '#ifndef LIVEBLK_QAPI_COMMANDS_H', '#define LIVEBLK_QAPI_COMMANDS_H', '',
               '#include "block/qapi-types.h"', '', '#ifndef coroutine_fn', '#define coroutine_fn', '#endif', '']
        for e in self.s.all('command'):
            out += [f'/* {e.doc} */', self.prototype(e) + ';']
        return '\n'.join(out + ['', '#endif', ''])

    def marshal(self):
        out = ['/* SPDX-License-Identifier: MIT */',
               '/* qapi-commands.c: the table of commands. Generated from the schema; do not edit. */',
               '#include "base/osdep.h"', '#include "qapi-tables.h"', '']
        rows = []
        for e in self.s.all('command'):
            out += self.marshal_one(e)
            arg = f'qapi_type_{e.args_struct or "empty"}'
            ret = '&qapi_type_any' if e.returns_json else \
                f'&qapi_type_{e.returns.name}{"List" if e.returns.is_list else ""}' if e.returns else 'NULL'
            rows.append(f'    {{ "{e.name}", &{arg}, {ret}, marshal_{c_name(e.name)}, '
                        f'{"true" if "oob" in e.flags else "false"} }},')
        return '\n'.join(out + ['const QapiCommand qapi_commands[] = {'] + rows +
                         ['    { NULL, NULL, NULL, NULL, false }', '};', ''])

    def marshal_one(self, e):
        params = self.params(e)
        out = [f'static void *marshal_{c_name(e.name)}(void *opaque, Error **errp)', '{']
        if params:
            out += [f'    {e.args_struct} *arg = opaque;', '']
        call = f'qmp_{c_name(e.name)}({", ".join([v for _, v in params] + ["errp"])})'
        out += [f'    return {call};'] if e.returns else [f'    {call};', '    return NULL;']
        return out + ['}', '']

    # ---- events ----
    def event_prototype(self, e):
        params = []
        for m in self.s.members(e):
            if m.optional and not self.t.is_pointer(m.type):
                params.append(f'bool has_{m.c_name}')
            pointer = self.t.is_pointer(m.type)
            params.append(('const ' if pointer else '') + self.t.decl(m.type, m.c_name))
        return f'void qapi_event_send_{c_name(e.name.lower())}({", ".join(params) or "void"})'

    def events_header(self):
        out = ['/* SPDX-License-Identifier: MIT */',
               '/* qapi-events.h: senders of events. Generated from the schema; do not edit. Any thread. */',
               '#ifndef LIVEBLK_QAPI_EVENTS_H', '#define LIVEBLK_QAPI_EVENTS_H', '',
               '#include "block/qapi-types.h"', '']
        for e in self.s.all('event'):
            out += [f'/* {e.doc} */', self.event_prototype(e) + ';']
        return '\n'.join(out + ['', '#endif', ''])

    def events_source(self):
        out = ['/* SPDX-License-Identifier: MIT */',
               '/* qapi-events.c: senders of events. Generated from the schema; do not edit. */',
               '#include "base/osdep.h"', '#include "qapi-events.h"', '#include "qapi-tables.h"', '']
        rows = []
        for e in self.s.all('event'):
            out += [self.event_prototype(e), '{']
            data = '&data' if e.members else 'NULL'
            table = f'&qapi_type_{e.args_struct}' if e.members else 'NULL'
            if e.members:
                out += [f'    {e.args_struct} data = {{'] + self.event_values(e) + ['    };', '']
            out += [f'    qapi_event_emit("{e.name}", {table}, {data});', '}', '']
            rows.append(f'    {{ "{e.name}", {table} }},')
        return '\n'.join(out + ['const QapiEvent qapi_events[] = {'] + rows + ['    { NULL, NULL }', '};', ''])

    def event_values(self, e):
        out = []
        for m in self.s.members(e):
            pointer = self.t.is_pointer(m.type)
            if m.optional and not pointer:
                out.append(f'        .has_{m.c_name} = has_{m.c_name},')
            cast = f'({self.t.ctype(m.type)})' if pointer else ''
            out.append(f'        .{m.c_name} = {cast}{m.c_name},')
        return out
