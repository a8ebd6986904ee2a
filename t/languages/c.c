/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void copy(FILE *in)
{
    for (int c; (c = getc(in)) != EOF;)
        putchar(c);
}

static void inner(int told)
{
    assert(!told);
}

int main(int argc, char **argv)
{
    const char *mode = argv[1];
    if (!strcmp(mode, "hello"))
        puts("Hello, World!");
    else if (!strcmp(mode, "stdin"))
        copy(stdin);
    else if (!strcmp(mode, "args")) {
        for (int i = 2; i < argc; i++)
            printf("[%s]", argv[i]);
        puts("");
    } else if (!strcmp(mode, "env"))
        puts(getenv("GREETING"));
    else if (!strcmp(mode, "exit"))
        return 3;
    else if (!strcmp(mode, "throw"))
        inner(1);
    else if (!strcmp(mode, "loop"))
        for (volatile int i = 0;; i++)
            ;
    else if (!strcmp(mode, "alloc")) {
        volatile char *p = malloc(1 << 30);
        for (long i = 0; i < 1 << 30; i += 4096)
            p[i] = 'x';
        printf("%c\n", p[4096]);
    } else if (!strcmp(mode, "flood"))
        for (int i = 0; i < 10485760; i++)
            putchar('x');
    else if (!strcmp(mode, "threads")) {
        int sum = 0, status;
        for (int i = 1; i <= 4; i++)
            if (fork() == 0)
                _exit(i);
        while (wait(&status) > 0)
            sum += WEXITSTATUS(status);
        printf("%d\n", sum);
    } else if (!strcmp(mode, "write"))
        fputs("made here\n", fopen("/work/outputs/made.txt", "w"));
    else if (!strcmp(mode, "read"))
        copy(fopen("in.txt", "r"));
    else if (!strcmp(mode, "net")) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(80)};
        inet_pton(AF_INET, "1.1.1.1", &to.sin_addr);
        puts(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&to, sizeof to) == 0 ? "connected"
                                                                                   : "none");
    }
    return 0;
}
