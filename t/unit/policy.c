/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/policy - the policy file: what it becomes, what is refused and how that is named. */
#include "policy/policy.h"
#include "lib/err.h"
#include "lib/fd.h"
#include "lib/tap.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1ull << 20)

static struct policy_set set, other;
static struct err err;
static const struct policy_base base = {
    .limits = {
        .group = {.memory_bytes = 512 * MIB, .pids_max = 256, .cpu_percent = 100, .cpu_weight = 50},
        .nofile = 1024,
        .fsize_bytes = 1024 * MIB,
        .stack_bytes = 8 * MIB,
        .nproc = 257,
        .tmp_bytes = 64 * MIB}};

static int load_into(struct policy_set *to, const char *text)
{
    auto_close int fd = fd_memfd_sealed("policy", text, strlen(text));
    if (fd < 0)
        die(1, "memfd");
    err = (struct err){0};
    return policy_load(&base, "p.yaml", fd, to, &err);
}

static int load(const char *text)
{
    return load_into(&set, text);
}

static const struct policy_plan *plan(const char *name)
{
    static const struct policy_plan none;
    int i = policy_find(&set, name);
    return i < 0 ? &none : &set.plans[i];
}

static void refused(const char *text, const char *part, const char *what)
{
    ok(load(text) < 0 && err.code < 0 && strstr(err.text, part), "%s is refused: %s", what,
       err.text);
}

#define DEFAULT(line) "policies:\n  default:\n    " line "\n"

static void test_values(void)
{
    ok(policy_load(&base, "p.yaml", -1, &set, &err) == 0 && set.count == 1 &&
           set.plans[0].limits.group.memory_bytes == 512 * MIB &&
           strcmp(set.plans[0].name, "default") == 0,
       "without a file there is the default policy, as the settings have it");
    ok(set.plans[0].bpf_len > 20 && set.plans[0].landlock_abi == (uint32_t)policy_landlock_abi() &&
           set.plans[0].layers & POLICY_LANDLOCK,
       "it is compiled: %u instructions", set.plans[0].bpf_len);
    ok(load("policies:\n"
            "  tight:\n    memory_mb: 64\n    tmp_mb: 8\n    env: {A: x y, B: ''}\n"
            "  tighter:\n    base: tight\n    pids: 16\n    env: {C: z}\n"
            "  default:\n    cpu_percent: 0\n    timeout_max_ms: 5000\n") == 0,
       "a file with three policies %s", err.text);
    const struct policy_plan *t = plan("tight"), *tt = plan("tighter");
    ok(set.count == 3 && t->magic && tt->magic && plan("default") == &set.plans[0],
       "all are there");
    ok(t->limits.group.memory_bytes == 64 * MIB && t->limits.tmp_bytes == 8 * MIB &&
           t->limits.group.cpu_percent == 0 && t->limits.timeout_ms_max == 5000,
       "a policy inherits from default, wherever that stands");
    ok(tt->limits.group.memory_bytes == 64 * MIB && tt->limits.group.pids_max == 16,
       "... or from its base");
    ok(t->env_count == 2 && strcmp(t->env, "A=x y") == 0 && strcmp(t->env + 6, "B=") == 0 &&
           tt->env_count == 1 && strcmp(tt->env, "C=z") == 0,
       "variables; a policy's own replace its base's");
    ok(policy_set_is_sound(&set, policy_set_bytes(&set)), "the block is sound");
}

static void test_boxes(void)
{
    (void)load("policies:\n  a: {memory_mb: 64, tmp_mb: 31}\n"
               "  b: {base: a, pids: 8, cpu_percent: 5, env: {A: b}, timeout_max_ms: 9}\n"
               "  c: {base: a, nofile: 64}\n  d: {base: a, tmp_mb: 8}\n"
               "  e: {base: a, landlock: {tcp_bind: none}}\n"
               "  f: {base: a, landlock: {tcp_bind: [80]}}\n"
               "  g: {base: a, binds: ['/usr/share:/opt/share']}\n"
               "  h: {base: a, network: {mode: egress, allow: ['192.0.2.0/24:80']}}\n"
               "  i: {base: h, network: {rate_kbit: 9}}\n");
    uint64_t a = plan("a")->box;
    ok(a && plan("b")->box == a, "what the next run can have needs no other zygote");
    for (const char *at = "cdefghi"; *at; at++) {
        char name[2] = {*at, 0};
        const struct policy_plan *p = plan(name);
        ok(p->magic && p->box != a, "%s needs one", name);
        for (const char *k = "cdefghi"; k < at; k++) {
            char earlier[2] = {*k, 0};
            ok(plan(earlier)->box != p->box, "... and not %s's", earlier);
        }
    }
}

static void test_network(void)
{
    ok(load("policies:\n  a:\n    network:\n      mode: egress\n      allow: "
            "['udp://10.0.0.0/8:1-9']\n"
            "      resolvers: [192.0.2.53, 192.0.2.54]\n      rate_kbit: 1000\n"
            "  b: {base: a, network: {allow: []}}\n  c: {base: a, network: {mode: none}}\n") == 0,
       "networks %s", err.text);
    const struct policy_net *a = &plan("a")->net, *b = &plan("b")->net, *c = &plan("c")->net;
    ok(a->mode == POLICY_NET_EGRESS && a->rule_count == 1 && a->rules[0].udp &&
           a->rules[0].port_last == 9 && a->resolver_count == 2 && a->resolvers[1] == 0xc0000236 &&
           a->rate_kbit == 1000,
       "a network is read");
    ok(b->mode == POLICY_NET_EGRESS && b->rule_count == 0 && b->resolver_count == 2,
       "another keeps what it does not name");
    ok(c->mode == POLICY_NET_NONE && plan("default")->net.mode == POLICY_NET_NONE, "none");
    refused(DEFAULT("network: {mode: full}"), "expected none or egress", "an unknown mode");
    refused(DEFAULT("network: {open: all}"), "policies.default.network.open: unknown", "a key");
    refused(DEFAULT("network: {allow: ['10.0.0.1/8:1']}"), "expected 10.0.0.0/8", "bits behind /8");
    refused(DEFAULT("network: {allow: '1.2.3.4:1'}"), "expected a list", "a rule that is no list");
    refused(DEFAULT("network: {resolvers: ['::1']}"), "IPv6 is not supported", "an IPv6 resolver");
    refused(DEFAULT("network: {rate_kbit: -1}"), "expected 0 to 100000000", "a negative speed");
}

static void test_matches(void)
{
    ok(load("policies:\n  a: {pids: 8}\n  b: {pids: 9}\n  c: {nofile: 99}\n"
            "namespaces:\n- {match: ci-1, policy: b}\n- {match: 'ci-*', policy: a, may_ask: [b]}\n"
            "- {match: '*', policy: c}\n") == 0,
       "matches %s", err.text);
    const struct policy_match *m = policy_find_match(&set, "ci-1");
    ok(m && m->policy == 2 && m->may_ask == 0, "the first that fits decides");
    m = policy_find_match(&set, "ci-10");
    ok(m && m->policy == 1 && m->may_ask == 1u << 2, "a pattern, and what may be asked for");
    m = policy_find_match(&set, "x");
    ok(m && m->policy == 3, "* is for all");
    ok(policy_serves(&set, plan("c")->box, "x") && !policy_serves(&set, plan("c")->box, "ci-10") &&
           policy_serves(&set, plan("a")->box, "ci-1") && !policy_serves(&set, 1, "x"),
       "a zygote serves the namespaces whose policies have its box");
    (void)load("policies:\n  a: {nofile: 99}\nnamespaces:\n- {match: 'ci-*', policy: a}\n");
    ok(!policy_find_match(&set, "c") && !policy_find_match(&set, "xci-1") &&
           policy_find_match(&set, "ci-"),
       "the whole id is compared");
}

static void test_refusals(void)
{
    refused(DEFAULT("pids: 9") "\n---\nnamespaces: []\n", "p.yaml:6: expected one document",
            "a second document");
    refused(DEFAULT("pids: 9") "\n---\n: [", "p.yaml:", "what is no YAML behind it");
    refused(DEFAULT("memory: 5"), "p.yaml:3: policies.default.memory: unknown", "an unknown key");
    refused(DEFAULT("memory_mb: x"), "expected a whole number from 16 to 1048576 MiB", "a word");
    refused(DEFAULT("memory_mb: 15"), "got \"15\"", "too little");
    refused(DEFAULT("memory_mb: 18446744073709551615"), "policies.default.memory_mb",
            "a number beyond 64 bits once in bytes");
    refused(DEFAULT("memory_mb: [1]"), "something else", "a list for a number");
    refused(DEFAULT("pids: 4\n    pids: 5"), "p.yaml:4: policies.default: pids stands twice",
            "a key twice");
    refused(DEFAULT("memory_mb: 100\n    tmp_mb: 50"), "less than half of memory_mb",
            "a /tmp that is half of the memory");
    refused(DEFAULT("timeout_max_ms: 5\n    timeout_default_ms: 6"), "at most timeout_max_ms",
            "a default beyond the maximum");
    refused(DEFAULT("base: default"), "stands above", "a base for default");
    refused("policies:\n  a: {base: a}\n", "policies.a.base", "a policy that is its own base");
    refused("policies:\n  a: {base: b}\n  b: {pids: 8}\n", "stands above it, got \"b\"",
            "a base that comes later");
    refused("policies:\n  a b: {pids: 8}\n", "letters, digits", "a name with a space");
    refused("policies: [a]\n", "p.yaml:1: policies: expected a mapping", "a list of policies");
    refused("policy: {}\n", "unknown key: expected policies, namespaces", "another key on top");
    refused("a\n", "p.yaml:1: the file: expected a mapping", "no mapping");
    refused("policies: {\n", "not YAML", "broken YAML");
    refused(DEFAULT("landlock: {files: maybe}"), "expected on or off", "neither on nor off");
    refused(DEFAULT("landlock: {tcp_bind: [0]}"), "ports from 1 to 65535", "port 0");
    refused(DEFAULT("landlock: {tcp_bind: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}"),
            "at most 16", "17 ports");
    refused(DEFAULT("landlock: {tcp: any}"), "unknown: expected files", "an unknown right");
    refused(DEFAULT("env: {1A: x}"), "letters, digits and _", "a bad variable");
    refused(DEFAULT("env: {A: [x]}"), "expected text", "a list for a variable");
    refused(DEFAULT("binds: ['/usr:/usr']"), "/FROM:/opt/NAME", "a bind over the image");
    refused(DEFAULT("binds: ['/usr:/opt/../etc']"), "/FROM:/opt/NAME", "a bind by ..");
    refused(DEFAULT("binds: ['/usr:/opt/a/b']"), "/FROM:/opt/NAME", "a bind two levels down");
    refused(DEFAULT("binds: ['/usr:/opt/']"), "/FROM:/opt/NAME", "a bind over /opt");
    refused(DEFAULT("binds: ['/usr:/opt/..']"), "/FROM:/opt/NAME", "a bind to /opt/..");
    refused(DEFAULT("binds: ['usr:/opt/a']"), "/FROM:/opt/NAME", "a relative source");
    refused(DEFAULT("binds: ['/usr:/opt/a', '/etc:/opt/a']"), "stands twice", "two at one place");
    refused(DEFAULT("binds: ['/nowhere-at-all:/opt/a']"), "/nowhere-at-all", "a source that lacks");
    refused(DEFAULT("required: [warp]"), "\"warp\": expected layers", "an unknown layer");
    refused(DEFAULT("seccomp: /nowhere.json"), "/nowhere.json", "a profile that lacks");
    refused("namespaces:\n- {match: 'a*b', policy: default}\n", "perhaps ending in *",
            "a * inside");
    refused("namespaces:\n- {match: a, policy: b}\n", "name of a policy, got \"b\"",
            "a match with an unknown policy");
    refused("namespaces:\n- {policy: default}\n", "match is missing", "a match of nothing");
    refused("namespaces:\n- {match: a}\n", "policy is missing", "a match without a policy");
    refused("namespaces:\n- {match: 'a*', policy: default}\n- {match: ab, policy: default}\n",
            "p.yaml:3: namespaces: ab is never reached: a* stands above",
            "a match behind a wider one");
    refused("namespaces:\n- {match: '*', policy: default}\n- {match: 'a*', policy: default}\n",
            "never reached", "a pattern behind a wider one");
    refused("namespaces:\n- {match: a, policies: b}\n", "unknown key policies",
            "another key there");
    char many[4096] = "policies:\n";
    for (int i = 0; i < 16; i++)
        (void)snprintf(many + strlen(many), 64, "  p%d: {pids: 8}\n", i);
    refused(many, "at most 16", "a 17th policy");
    char big[POLICY_FILE_BYTES_MAX + 2];
    memset(big, '#', sizeof big - 1);
    big[sizeof big - 1] = 0;
    refused(big, "at most 262144 bytes", "a file beyond the limit");
}

static void write_profile(const char *path, const char *refused_call)
{
    char text[200];
    (void)snprintf(text, sizeof text,
                   "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"%s\"], "
                   "\"action\": \"SCMP_ACT_ERRNO\"}]}",
                   refused_call);
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
        die(1, "%s", path);
}

static void test_profiles(void)
{
    char path[] = "/tmp/brood-profile-XXXXXX", text[200];
    auto_close int fd = mkstemp(path);
    if (fd < 0)
        die(1, "%s", path);
    (void)snprintf(text, sizeof text, "policies:\n  own: {seccomp: %s}\n", path);
    write_profile(path, "mkdir");
    ok(load(text) == 0 && strcmp(plan("own")->profile, path) == 0 &&
           plan("own")->bpf_len != plan("default")->bpf_len &&
           plan("own")->box != plan("default")->box,
       "a profile of one's own %s", err.text);
    write_profile(path, "wait4");
    refused(text, "policy own: seccomp profile /tmp/brood-profile-",
            "one that brood cannot live with");
    ok(strstr(err.text, "wait4 is refused, which brood itself needs") != NULL, "... says why");
    (void)unlink(path);
}

static void test_soundness(void)
{
    struct {
        const char *what;
        void *at;
        uint32_t value;
    } wounds[] = {
        {"magic", &other.magic, 1},
        {"count 0", &other.count, 0},
        {"count 17", &other.count, 17},
        {"65 matches", &other.match_count, 65},
        {"a match with policy 9", &other.matches[0].policy, 9},
        {"a match that may ask for policy 31", &other.matches[0].may_ask, 1u << 31},
        {"bpf_len", &other.plans[0].bpf_len, POLICY_BPF_MAX + 1},
        {"9 binds", &other.plans[1].bind_count, 9},
        {"17 variables", &other.plans[1].env_count, 17},
        {"env without its end", &other.plans[1].env_bytes, 3},
        {"17 ports", &other.plans[1].bind_ports.count, 17},
        {"65 rules", &other.plans[1].net.rule_count, 65},
        {"a name without end", other.plans[1].name + 29, UINT32_MAX},
        {"a pattern without end", other.matches[0].pattern + 68, UINT32_MAX},
    };
    (void)load("policies:\n  a: {env: {A: b}}\nnamespaces:\n- {match: x, policy: a}\n");
    for (size_t i = 0; i < ARRAY_LEN(wounds); i++) {
        other = set;
        memcpy(wounds[i].at, &wounds[i].value, sizeof wounds[i].value);
        ok(!policy_set_is_sound(&other, policy_set_bytes(&set)), "not sound: %s", wounds[i].what);
    }
    ok(policy_set_is_sound(&set, policy_set_bytes(&set)) &&
           !policy_set_is_sound(&set, policy_set_bytes(&set) - 1),
       "the length belongs to it");
}

/* The example file, in words; t/golden/policy.txt is what it was when it was last looked at. */
static void test_golden(void)
{
    static char text[16384], golden[16384];
    auto_close int fd = open("etc/policy.yaml", O_RDONLY | O_CLOEXEC);
    auto_close int want = open("t/golden/policy.txt", O_RDONLY | O_CLOEXEC);
    ok(fd >= 0 && policy_load(&base, "etc/policy.yaml", fd, &set, &err) == 0,
       "etc/policy.yaml loads %s", err.text);
    other = set;
    ok(policy_load(&base, "", -1, &other, &err) == 0 && other.plans[0].box == set.plans[0].box &&
           memcmp(&other.plans[0].limits, &set.plans[0].limits, sizeof set.plans[0].limits) == 0,
       "it documents the default policy as it is");
    for (uint32_t i = 0; i < set.count; i++) {
        set.plans[i].box = 0; /* the kernel is in these two */
        set.plans[i].landlock_abi = 7;
        policy_show(&set, i, text + strlen(text), sizeof text - strlen(text));
    }
    ssize_t n = want < 0 ? -1 : read(want, golden, sizeof golden - 1);
    ok(n > 0 && strcmp(text, golden) == 0, "in words it is t/golden/policy.txt");
    for (char *line = text, *end; !(n > 0 && strcmp(text, golden) == 0) && *line; line = end + 1) {
        end = strchr(line, '\n');
        printf("# %.*s\n", (int)(end - line), line);
    }
}

int main(void)
{
    test_values();
    test_boxes();
    test_network();
    test_matches();
    test_refusals();
    test_profiles();
    test_soundness();
    test_golden();
    return tap_done();
}
