/* SPDX-License-Identifier: MIT */
/* version.h: what query-version tells: the version of the protocol's reference that the
 * commands and their arguments follow, and our own as the package. */
#ifndef LIVEBLK_QMP_VERSION_H
#define LIVEBLK_QMP_VERSION_H
#define QMP_VERSION_MAJOR 10
#define QMP_VERSION_MINOR 0
#define QMP_VERSION_MICRO 2
#define QMP_VERSION_PACKAGE "liveblk " LIVEBLK_VERSION
#endif
