/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/json_out - bytes into the inside of a JSON string, piece by piece into a bounded buffer.
 */
#pragma once

#define JSON_OUT_ROOM_MIN 8u /* with at least this much room every call makes progress */

/* Both read from the start of in, write at most room bytes of string content (without quotes), say
 * in *ret_taken how much of in that was, and return the bytes written. Call again with the rest.
 * `in` must hold everything to its end: what cannot be completed from it counts as broken. */

/* UTF-8 text. Each maximal invalid part becomes U+FFFD (as the Unicode standard recommends), CESU
 * surrogates included. */
size_t json_out_text(char *out, size_t room, const char *in, size_t len, size_t *ret_taken);
/* Does the text come out as it went in? */
bool json_out_is_exact(const char *in, size_t len);
/* How many bytes at its end begin a character that more bytes may complete: 0 to 3. */
size_t json_out_unfinished(const char *in, size_t len);
/* Base64 (RFC 4648, padded). */
size_t json_out_base64(char *out, size_t room, const char *in, size_t len, size_t *ret_taken);
