/* SPDX-License-Identifier: Apache-2.0 */
/* t/unit/courier - a URL is on the operator's list or it is not, and there is one way to read it;
 * an address that is not public is refused in each of its forms, unless it is listed.
 */
#include "courier/courier.h"
#include "lib/err.h"
#include "lib/tap.h"
#include <arpa/inet.h>

static bool allows(const char *list, const char *url)
{
    struct courier_target target;
    return courier_read_url(url, strlen(url), &target) && courier_is_listed(list, &target);
}

static void urls(void)
{
    static const struct {
        const char *url, *host;
        bool tls;
        uint16_t port;
    } good[] = {
        {"https://hooks.example.com/x?y=1", "hooks.example.com", true, 443},
        {"HTTPS://Hooks.Example.COM", "hooks.example.com", true, 443},
        {"http://h", "h", false, 80},
        {"http://h?x", "h", false, 80},
        {"http://h:8080/", "h", false, 8080},
        {"https://127.0.0.1:65535/", "127.0.0.1", true, 65535},
        {"http://[::1]:81/x", "[::1]", false, 81},
        {"http://[FE80::1]", "[fe80::1]", false, 80},
        {"http://h/a@b", "h", false, 80},
    };
    static const char *const bad[] = {
        "",
        "h",
        "//h/",
        "ftp://h/",
        "file:///etc/passwd",
        "https:/h",
        "https://",
        "https:///x",
        "http://user@h/",
        "http://user:pw@h/",
        "http://h@evil/",
        "http://h\\@evil/",
        "http://h#f",
        "http://h/#f",
        "http://h%2eevil/",
        "http://h:/",
        "http://h:0/",
        "http://h:65536/",
        "http://h:80:80/",
        "http://h:+80/",
        "http://h: 80/",
        " http://h/",
        "http://h /",
        "http://h\n",
        "http://h\t/",
        "http://h\x7f/",
        "http://h\xc3\xa4/",
        "http://.h/",
        "http://h./",
        "http://a..b/",
        "http://-h/",
        "http://[::1/",
        "http://[]/",
        "http://[::1]x/",
        "http://[::1%25lo]/",
        "http://h,x/",
        "http://h;x/",
        "http://h/\"",
        "http://h/<",
        "http://h/`",
        "http://{h}/",
        "https://http://h/",
        "gopher://h/",
        "http:h",
    };
    struct courier_target t;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ok(courier_read_url(good[i].url, strlen(good[i].url), &t) && t.tls == good[i].tls &&
               t.port == good[i].port && strcmp(t.host, good[i].host) == 0,
           "taken: %s", good[i].url);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(!courier_read_url(bad[i], strlen(bad[i]), &t), "not taken: %zu %.20s", i, bad[i]);
    ok(!courier_read_url("http://h/\0x", 11, &t), "not taken: NUL");

    char longest[COURIER_URL_MAX + 2];
    memset(longest, 'a', sizeof longest);
    memcpy(longest, "http://h/", 9);
    ok(courier_read_url(longest, COURIER_URL_MAX, &t), "2048 bytes are taken");
    ok(!courier_read_url(longest, COURIER_URL_MAX + 1, &t), "2049 are not");
    memset(longest + 7, 'a', 400);
    memcpy(longest + 7 + COURIER_HOST_MAX, "/", 2);
    ok(courier_read_url(longest, 8 + COURIER_HOST_MAX, &t), "253 bytes of a name are taken");
    memcpy(longest + 7 + COURIER_HOST_MAX, "a/", 3);
    ok(!courier_read_url(longest, 9 + COURIER_HOST_MAX, &t), "254 are not");
}

static void lists(void)
{
    static const char list[] =
        "a.example, *.b.example:8443 ,http://127.0.0.1:8080,http://c.example,"
        "[::1]:444";
    static const struct {
        const char *url;
        bool allowed;
    } table[] = {
        {"https://a.example/", true},
        {"https://A.Example:443/", true},
        {"http://a.example/", false},
        {"https://a.example:444/", false},
        {"https://x.a.example/", false},
        {"https://xa.example/", false},
        {"https://a.example.evil/", false},
        {"https://x.b.example:8443/", true},
        {"https://x.y.b.example:8443/", true},
        {"https://b.example:8443/", false},
        {"https://xb.example:8443/", false},
        {"https://x.b.example/", false},
        {"http://127.0.0.1:8080/x", true},
        {"https://127.0.0.1:8080/x", false},
        {"http://127.0.0.2:8080/x", false},
        {"http://127.1:8080/x", false},
        {"http://2130706433:8080/x", false},
        {"http://c.example/", true},
        {"https://[::1]:444/", true},
        {"https://[::1]/", false},
        {"https://[0:0:0:0:0:0:0:1]:444/", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        ok(allows(list, table[i].url) == table[i].allowed, "%s: %s",
           table[i].allowed ? "listed" : "not listed", table[i].url);
    ok(!allows("", "https://a.example/"), "an empty list allows nobody");

    static const char *const bad[] = {",",   "a,,b",     "ftp://a", "a/b",     "a:b",
                                      "*",   "*.",       "a*.b",    "*.[::1]", "user@a",
                                      "a b", "https://", "a:70000"};
    struct err err = {0};
    uint16_t ports[COURIER_PORTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(courier_read_list(bad[i], NULL, NULL, &err) < 0 && *err.text, "no list: %s", bad[i]);
    ok(courier_read_list(list, ports, &count, &err) == 0 && count == 5, "a list has its ports");
    ok(courier_read_list("a,b,https://c:443", ports, &count, &err) == 0 && count == 1 &&
           ports[0] == 443,
       "each once");
}

static const char *refused(const char *text, const struct courier_ranges *but)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return courier_address_refused((struct sockaddr *)&v4, but);
    return inet_pton(AF_INET6, text, &v6.sin6_addr) == 1
               ? courier_address_refused((struct sockaddr *)&v6, but)
               : "no address";
}

static void addresses(void)
{
    static const char *const forbidden[] = {
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::10.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:102:304::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:808:808::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
        "5f00::1",
    };
    static const char *const fine[] = {
        "1.1.1.1",     "8.8.8.8",      "9.255.255.255", "11.0.0.0",    "100.63.255.255",
        "100.128.0.0", "126.0.0.1",    "128.0.0.1",     "169.253.0.1", "172.15.0.1",
        "172.32.0.1",  "192.0.1.1",    "192.167.0.1",   "198.17.0.1",  "198.20.0.1",
        "223.0.0.1",   "2606:4700::1", "2a00::1",       "2001:4860::1"};
    struct courier_ranges none = {.count = 0}, some;
    struct sockaddr other = {.sa_family = AF_UNIX};
    struct err err = {0};
    for (size_t i = 0; i < ARRAY_LEN(forbidden); i++)
        ok(refused(forbidden[i], &none) != NULL, "refused: %s", forbidden[i]);
    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        ok(refused(fine[i], &none) == NULL, "public: %s", fine[i]);
    ok(courier_address_refused(&other, &none) != NULL, "refused: no address at all");

    ok(courier_read_ranges("127.0.0.1, 10.1.0.0/16,fd00::/8 , ::ffff:0:0/96,64:ff9b::/96", &some,
                           &err) == 0 &&
           some.count == 5,
       "exceptions are read");
    static const struct {
        const char *address;
        bool refused;
    } table[] = {
        {"127.0.0.1", false},
        {"127.0.0.2", true},
        {"10.1.255.1", false},
        {"10.2.0.1", true},
        {"fd12::1", false},
        {"fc00::1", true},
        {"::ffff:10.1.0.1", false},
        {"::ffff:10.2.0.1", true},
        {"::ffff:8.8.8.8", false},
        {"64:ff9b::8.8.8.8", false},
        {"64:ff9b::192.168.0.1", true},
        {"2002:808:808::1", true},
        {"::1", true},
        {"8.8.8.8", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        ok((refused(table[i].address, &some) != NULL) == table[i].refused,
           "with exceptions, %s: %s", table[i].refused ? "refused" : "allowed", table[i].address);
    ok(courier_read_ranges("::1", &some, &err) == 0 && !refused("::1", &some) &&
           refused("::2", &some),
       "loopback of IPv6 can be listed");
    static const char *const bad[] = {"x",      "10.0.0.0/33", "::/129",     "10.0.0.0/",
                                      "10.0.0", "1,,2",        "10.0.0.1/-1"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ok(courier_read_ranges(bad[i], &some, &err) < 0, "no exceptions: %s", bad[i]);
}

int main(void)
{
    urls();
    lists();
    addresses();
    return tap_done();
}
