/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/media - the media type of a file, guessed from its name alone. */
#pragma once

/* Never NULL; "application/octet-stream" where the name says nothing. */
const char *media_type_of(const char *name);
