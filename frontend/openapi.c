/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/openapi - GET /openapi.yaml: etc/openapi.yaml as it was at build time. t/590-openapi.t
 * holds the live server against it.
 */
#include "frontend/front.h"

extern const char openapi_yaml[], openapi_yaml_end[];

__asm__(".pushsection .rodata\n"
        ".global openapi_yaml\n"
        ".global openapi_yaml_end\n"
        "openapi_yaml:\n"
        ".incbin \"etc/openapi.yaml\"\n"
        "openapi_yaml_end:\n"
        ".byte 0\n"
        ".popsection\n");

void openapi_on_get(struct front *f, struct http_request *req, const struct http_text *params)
{
    (void)f;
    (void)params;
    http_respond_as(req, 200, NULL, "application/yaml", openapi_yaml,
                    (size_t)(openapi_yaml_end - openapi_yaml));
}
