/* SPDX-License-Identifier: Apache-2.0 */
/* bench/main - brood-bench: the load client behind `make bench`. bench/run starts a private service
 * and calls it; every mode also works against a service that runs already.
 */
#include "bench/bench.h"
#include "lib/fd.h"
#include "lib/num.h"
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <sys/socket.h>

static const char usage[] =
    "usage: brood-bench MODE [option...]\n"
    "  figures   the table of figures and their bars         --http PORT --socket PATH\n"
    "  memory    what an active, idle namespace costs        --http PORT --socket PATH\n"
    "  budget    the stages of a warm run, seen by a client  --http PORT --socket PATH\n"
    "  soak      mixed load, and what the service holds      --http PORT --socket PATH --pid PID\n"
    "  jobs      submissions, and jobs beside /execute       --http PORT\n"
    "  languages code beside the same program without a sandbox  --http PORT\n"
    "  streams   how soon output is with who watches it      --http PORT\n"
    "  ready     wait until GET /ready is 200                --http PORT\n"
    "  port      print a free TCP port\n"
    "options: --rounds N (15)  --spares N (8, as configured in the service)  --namespaces N "
    "(1000)\n"
    "  --seconds N (60)  --workers N (6)  --pid PID of the supervisor\n"
    "  --crun-bundle DIR | --no-crun WHY   --idle-kib VALUE --idle-low V --idle-high V from "
    "`memory`\n";

static int print_free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof at) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        die(1, "no free port");
    printf("%u\n", (unsigned)ntohs(at.sin_port));
    return 0;
}

static int wait_ready(const struct options *o)
{
    struct err err = {0};

    if (http_wait_ready(o->http_port, o->seconds, &err) == 0)
        return 0;
    (void)fprintf(stderr, "brood-bench: not ready after %u s: %s\n", o->seconds, err.text);
    return 1;
}

static unsigned number(const char *name, const char *text, uint64_t max)
{
    uint64_t value;

    if (num_parse_u64(text, 0, max, &value) < 0)
        die(2, "--%s: a number up to %llu was expected, not \"%s\"", name, (unsigned long long)max,
            text);
    return (unsigned)value;
}

static void parse_option(struct options *o, int which, const char *name, const char *text)
{
    switch (which) {
    case 'p':
        o->http_port = number(name, text, 65535);
        break;
    case 's':
        o->socket = text;
        break;
    case 'r':
        o->rounds = number(name, text, ROUNDS_MAX);
        break;
    case 'q':
        o->spares = number(name, text, 1000);
        break;
    case 'n':
        o->namespaces = number(name, text, 100000);
        break;
    case 't':
        o->seconds = number(name, text, 1000000);
        break;
    case 'w':
        o->workers = number(name, text, 32);
        break;
    case 'P':
        o->service_pid = (int)number(name, text, 1u << 30);
        break;
    case 'c':
        o->crun_bundle = text;
        break;
    case 'C':
        o->crun_why = text;
        break;
    case 'i':
        o->idle_kib = strtod(text, NULL);
        break;
    case 'l':
        o->idle_low = strtod(text, NULL);
        break;
    case 'h':
        o->idle_high = strtod(text, NULL);
        break;
    default:
        die(2, "%s", usage);
    }
}

static void parse(int argc, char **argv, struct options *ret)
{
    static const struct option long_options[] = {
        {"http", 1, NULL, 'p'},        {"socket", 1, NULL, 's'},
        {"rounds", 1, NULL, 'r'},      {"spares", 1, NULL, 'q'},
        {"namespaces", 1, NULL, 'n'},  {"seconds", 1, NULL, 't'},
        {"workers", 1, NULL, 'w'},     {"pid", 1, NULL, 'P'},
        {"crun-bundle", 1, NULL, 'c'}, {"no-crun", 1, NULL, 'C'},
        {"idle-kib", 1, NULL, 'i'},    {"idle-low", 1, NULL, 'l'},
        {"idle-high", 1, NULL, 'h'},   {NULL, 0, NULL, 0}};
    int which, index = 0;

    while ((which = getopt_long(argc, argv, "", long_options, &index)) != -1)
        parse_option(ret, which, which == '?' ? "" : long_options[index].name, optarg);
}

int main(int argc, char **argv)
{
    struct options o = {.socket = "/run/brood/brood.sock",
                        .http_port = 8080,
                        .rounds = 15,
                        .spares = 8,
                        .namespaces = 1000,
                        .seconds = 60,
                        .workers = 6,
                        .idle_kib = -1};
    static const struct {
        const char *name;
        int (*run)(const struct options *o);
    } modes[] = {{"figures", figures_main}, {"memory", memory_main},       {"budget", budget_main},
                 {"soak", soak_main},       {"languages", languages_main}, {"jobs", jobs_main},
                 {"streams", streams_main}, {"ready", wait_ready}};
    const char *mode = argc > 1 ? argv[1] : "";

    if (argc > 1)
        parse(argc - 1, argv + 1, &o);
    if (strcmp(mode, "port") == 0)
        return print_free_port();
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (strcmp(mode, modes[i].name) == 0)
            return modes[i].run(&o);
    }
    (void)fputs(usage, stderr);
    return 2;
}
