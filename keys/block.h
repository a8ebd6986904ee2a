/* SPDX-License-Identifier: Apache-2.0 */
/* keys/block - how a list travels from whoever read it to the frontend: one machine, one build, so
 * fixed records in native byte order. */
#pragma once
#include "keys/keys.h"

#define KEY_BLOCK_MAGIC 0x3179656bu

struct key_record {
    struct key key;
    uint8_t sha256[32];
};

struct key_block {
    uint32_t magic, count;
    struct key_record records[];
};
