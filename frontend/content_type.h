/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/content_type - what a file probably is, by the end of its name. */
#pragma once

/* Static; "application/octet-stream" when there is no telling. */
const char *content_type_of(const char *name);
