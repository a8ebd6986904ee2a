# SPDX-License-Identifier: Apache-2.0
# POST /execute: what one run gives back - files that stay, exit codes, facts, stdin, environment, bytes.
use lib 't/lib';
use Brood;
use MIME::Base64 qw(decode_base64);
use Mojo::JSON qw(decode_json);

my $brood = Brood->start(tcp => 1);

subtest 'the three examples' => sub {
    my $r = $brood->sh(alice => 'echo hello > note.txt && cat note.txt');
    is($r->{http}, 200, 'answered');
    is($r->{stdout}, "hello\n", 'written and read');
    is($r->{exit_code}, 0, 'exit code 0');
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "hello\n", 'still there in a second request');
    $r = $brood->sh(bob => 'cat note.txt');
    is($r->{stderr}, "cat: note.txt: No such file or directory\n", 'bob has no such file');
    is($r->{exit_code}, 1, 'and exit code 1');
    is($r->{http}, 200, 'which is no error of ours');
    is($brood->sh(alice => 'cat note.txt')->{stdout}, "hello\n", 'bob changed nothing');
};

subtest 'facts' => sub {
    my $r = $brood->sh(alice => 'echo out; echo err >&2; x=0; while ((x < 20000)); do ((++x)); done');
    is($r->{stdout}, "out\n", 'stdout');
    is($r->{stderr}, "err\n", 'stderr apart from it');
    is($r->{reason}, 'exit', 'reason');
    is($r->{signal}, undef, 'no signal');
    ok(exists $r->{signal}, 'but the field');
    like($r->{run_id}, qr/^\w+$/, 'run_id');
    like($r->{start}, qr/^(?:warm|spare|cold|exec)$/, "start: $r->{start}");
    ok(defined $r->{$_} && $r->{$_} =~ /^\d+(\.\d+)?$/, "$_ is a number") for qw(queue_ms wall_ms cpu_ms max_rss_kb);
    cmp_ok($r->{cpu_ms}, '>', 0, 'cpu time was used');
    cmp_ok($r->{cpu_ms}, '<=', $r->{wall_ms} * 2 + 20, 'no more than two cpus of it');
    cmp_ok($r->{wall_ms}, '<', 10000, 'wall time is milliseconds');
    cmp_ok($r->{max_rss_kb}, '>', 50, 'some memory');
    cmp_ok($r->{max_rss_kb}, '<', 200_000, 'less than 200 of them');
    is_deeply([@$r{qw(stdout_bytes stderr_bytes)}], [4, 4], 'bytes counted');
    ok(!$r->{stdout_truncated} && !$r->{stderr_truncated}, 'nothing truncated');
    is(ref $r->{stdout_truncated}, 'JSON::PP::Boolean', 'which is a boolean');
    is_deeply($r->{denied}, [], 'no call was refused');
    is_deeply($brood->sh(alice => q{perl -e 'syscall 165, 0, 0, 0, 0, 0; syscall 101, 0, 0, 0, 0'})->{denied}, [qw(mount ptrace)], 'refused ones are named');
    my $next = $brood->sh(alice => 'sleep 0.2');
    isnt($next->{run_id}, $r->{run_id}, 'run ids differ');
    cmp_ok($next->{wall_ms}, '>=', 200, 'a sleep of 0.2 s takes that');
    cmp_ok($next->{cpu_ms}, '<', 150, 'but no cpu');
};

subtest 'exit codes' => sub {
    my @wrong = grep { my $r = $brood->sh(alice => "exit $_"); ($r->{exit_code} // -1) != $_ || $r->{reason} ne 'exit' } 0 .. 255;
    is("@wrong", '', 'exit 0 to 255');
    my $r = $brood->sh(alice => 'no-such-command');
    is($r->{exit_code}, 127, 'command not found: 127');
    like($r->{stderr}, qr/no-such-command: command not found/, "in bash's words");
    $r = $brood->sh(alice => 'echo text > plain; ./plain');
    is($r->{exit_code}, 126, 'not executable: 126');
    like($r->{stderr}, qr/\.\/plain: Permission denied/, "in bash's words");
    is($brood->sh(alice => '/')->{exit_code}, 126, 'a directory: 126');
    is($brood->sh(alice => 'false')->{exit_code}, 1, 'status of the last command');
    is($brood->sh(alice => '')->{exit_code}, 0, 'an empty command');
    for (['kill -9 $$', 'KILL'], ['kill -TERM $$', 'TERM'], ['kill -SEGV $$', 'SEGV'], ['kill -HUP $$', 'HUP'], ['kill -PIPE $$', 'PIPE']) {
        $r = $brood->sh(alice => $_->[0]);
        is($r->{exit_code}, undef, "$_->[0]: exit_code null");
        is($r->{signal}, $_->[1], "signal $_->[1]");
        is($r->{reason}, 'signal', 'reason signal');
    }
    is($brood->sh(alice => '(kill -9 $BASHPID); echo $?')->{stdout}, "137\n", 'a subshell killed is 128+9');
    $r = $brood->sh(alice => 'if then');
    is($r->{exit_code}, 2, 'syntax error: 2');
    like($r->{stderr}, qr/syntax error near unexpected token `then'/, "bash's own message");
    $r = $brood->sh(alice => 'echo "open');
    is($r->{exit_code}, 2, 'unterminated string: 2');
    like($r->{stderr}, qr/unexpected EOF while looking for matching/, "bash's own message");
    is($brood->sh(alice => 'echo a; exec echo b')->{stdout}, "a\nb\n", 'exec');
    is($brood->sh(alice => 'trap "echo bye" EXIT; exit 3')->{stdout}, "bye\n", 'EXIT trap');
};

subtest 'stdin' => sub {
    is($brood->sh(alice => 'cat; echo end')->{stdout}, "end\n", 'none given: end of file');
    is($brood->sh(alice => 'wc -c', stdin => '')->{stdout} + 0, 0, 'empty');
    is($brood->sh(alice => 'read a b; echo "$b-$a"; cat', stdin => "1 2\nrest")->{stdout}, "2-1\nrest", 'read, then cat');
    for my $size (1, 65536, 900 * 1024) {
        my $text = substr join('', map { "$_ " } 0 .. $size / 5 + 1), 0, $size;
        my $r = $brood->sh(alice => 'cat', stdin => $text);
        ok($r->{stdout} eq $text, "$size bytes in and out");
        is($r->{stdout_bytes}, $size, 'and counted');
    }
    is($brood->sh(alice => 'wc -c; cat /dev/stdin | wc -c', stdin => 'x' x 5000)->{stdout}, "5000\n5000\n", '/dev/stdin starts again');
    is($brood->sh(alice => 'od -An -tx1', stdin => "\x{e4}\x{20ac}\0\n")->{stdout}, " c3 a4 e2 82 ac 00 0a\n", 'UTF-8 and NUL');
    is($brood->sh(alice => 'exit 5', stdin => 'x' x 900_000)->{exit_code}, 5, 'not read at all');
};

subtest 'env and cwd' => sub {
    my $r = $brood->sh(alice => 'echo "$FOO|$BAR|$HOME|$USER|$PWD|$LANG"; id -u; printenv FOO', env => {FOO => 'a b"$(id)', BAR => ''});
    is($r->{stdout}, "a b\"\$(id)||/work|user|/work|C.UTF-8\n1000\na b\"\$(id)\n", 'environment of the run');
    is($brood->sh(alice => 'echo "${FOO-unset}"')->{stdout}, "unset\n", 'and only of it');
    is($brood->sh(alice => 'printenv U', env => {U => "\x{e4}\x{1f600}"})->{stdout}, "\x{e4}\x{1f600}\n", 'UTF-8');
    is($brood->sh(alice => 'mkdir -p "dir/s p"; pwd', cwd => '/tmp')->{stdout}, "/tmp\n", 'cwd');
    is($brood->sh(alice => 'mkdir -p ~/d; echo $PATH')->{stdout} =~ m{/usr/bin} ? 1 : 0, 1, 'a PATH');
    is($brood->sh(alice => 'pwd; echo $OLDPWD', cwd => '/work/d')->{stdout}, "/work/d\n\n", 'a directory of its own');
};

subtest 'bytes' => sub {
    my $r = $brood->sh(alice => q{printf 'a\000b\001\377\xc3(\xed\xa0\x80"\\\\\t\n'});
    like($r->{stdout}, qr/\Aa\0b\x01\x{fffd}\x{fffd}\(\x{fffd}+"\\\t\n\z/, 'binary, NUL and a lone surrogate become text');
    is($r->{stdout_bytes}, 14, 'counted in bytes');
    $r = $brood->sh(alice => q{printf 'a\000\377\xed\xa0\x80'; printf '\xfe' >&2}, encoding => 'base64');
    is(decode_base64($r->{stdout}), "a\0\377\xed\xa0\x80", 'base64 stdout is exact');
    is(decode_base64($r->{stderr}), "\xfe", 'base64 stderr too');
    $r = $brood->sh(alice => q{perl -e 'print map { chr($_ & 255) } 0 .. 100000'}, encoding => 'base64');
    ok(decode_base64($r->{stdout}) eq join('', map { chr($_ & 255) } 0 .. 100000), 'all byte values');
    is($brood->sh(alice => "printf '\x{1f600}\x{20ac}'")->{stdout}, "\x{1f600}\x{20ac}", 'UTF-8 in the command');
    is($brood->sh(alice => q{printf '\360\237\230'; sleep 0.05; printf '\200'})->{stdout}, "\x{1f600}", 'a character in two pieces');
    $r = $brood->sh(alice => q{head -c 1048576 /dev/zero | tr '\0' x});
    ok($r->{stdout} eq 'x' x 1048576, '1 MiB in one line');
    ok(!$r->{stdout_truncated}, 'is exactly within the limit');
    $r = $brood->sh(alice => q{head -c 1048577 /dev/zero | tr '\0' x});
    is(length $r->{stdout}, 1048576, 'one byte more is cut');
    ok($r->{stdout_truncated} && !$r->{stderr_truncated} && $r->{stdout_bytes} == 1048577, 'flagged and counted');
    my ($status, $json) = $brood->execute('{"namespace_id":"alice","cmd":"printf %s \"$X\" | od -An -tx1","env":{"X":"\ud83d\ude00\u00e4"}}');
    is($json->{stdout}, " f0 9f 98 80 c3 a4\n", 'escapes in JSON, a surrogate pair too');
    ($status) = $brood->execute('{"namespace_id":"alice","cmd":"echo \ud800"}');
    is($status, 400, 'a lone surrogate in the request is 400');
    is($brood->sh(alice => 'echo x >/dev/stderr; echo y | tee /dev/stdout >/dev/null; echo z >/dev/stdout')->{stderr}, "x\n", '/dev/stderr');
};

subtest 'output that is too much' => sub {
    $brood->sh(alice => 'true');
    my $before = $brood->memory;
    my $peak = 0;
    my $conn = $brood->post(alice => q{head -c 200000000 /dev/zero | tr '\0' y; head -c 3000000 /dev/zero | tr '\0' z >&2; exit 3});
    until_true(60, sub {
        my $now = $brood->memory;
        for (grep { defined $before->{$_} } keys %$now) {
            my $grown = $now->{$_} - $before->{$_};
            $peak = $grown if $grown > $peak;
        }
        $conn->readable;
    });
    my $r = $brood->result($conn);
    cmp_ok($peak, '<', 8192, "no process of ours grew by 8 MiB ($peak KiB)");
    is($r->{stdout_bytes}, 200_000_000, 'stdout counted');
    is($r->{stderr_bytes}, 3_000_000, 'stderr counted');
    ok($r->{stdout} eq 'y' x 1048576, 'the first 1 MiB is there');
    is(length $r->{stderr}, 1048576, 'of stderr as well');
    ok($r->{stdout_truncated} && $r->{stderr_truncated}, 'both flagged');
    is_deeply([@$r{qw(exit_code reason)}], [3, 'exit'], 'which is no error by itself');
};

subtest 'HTTP' => sub {
    my %body = (namespace_id => 'alice', cmd => 'echo hi');
    my (undef, undef, $headers) = $brood->execute(\%body);
    ok(length($headers->{'x-request-id'} // ''), 'X-Request-Id comes with an answer');
    my (undef, undef, $other) = $brood->execute(\%body);
    isnt($other->{'x-request-id'}, $headers->{'x-request-id'}, 'another one each time');
    (undef, my $json, $headers) = $brood->execute(\%body, headers => {'X-Request-Id' => 'test-4711.a'});
    is($headers->{'x-request-id'}, 'test-4711.a', 'the given one comes back');
    ok($brood->wait_log(qr/test-4711\.a/), 'and is in the log');
    (undef, undef, $headers) = $brood->execute(\%body, headers => {'X-Request-Id' => 'x' x 5000});
    cmp_ok(length($headers->{'x-request-id'} // ''), '<=', 128, 'a huge one does not');
    for my $via (qw(unix tcp)) {
        my $conn = $brood->connect(via => $via);
        my @out = map { $conn->put(Brood::Conn->request(POST => '/execute', body => {%body, cmd => "echo $_"})); $conn->get } 1 .. 20;
        is(join('', map { $_->{json}{stdout} } @out), join('', map { "$_\n" } 1 .. 20), "20 requests on one connection, $via");
        like($out[0]{headers}{'content-type'}, qr{^application/json}, 'as JSON');
    }
    my $conn = $brood->connect;
    $conn->put(Brood::Conn->request(POST => '/execute', body => \%body, headers => {Connection => 'close'}));
    is($conn->get->{json}{stdout}, "hi\n", 'Connection: close: answered');
    ok($conn->closed(2), 'and closed');
    for (['/health', 'healthy'], ['/v1/health', 'ok']) {
        my $res = $brood->request(GET => $_->[0]);
        is($res->{status}, 200, $_->[0]);
        is_deeply($res->{json}, {status => $_->[1]}, "says $_->[1]");
    }
    is($brood->request(GET => '/ready')->{status}, 200, '/ready');
    my ($status, $extra) = $brood->execute({%body, future_field => [1]});
    is($status, 200, 'an unknown field is ignored');
    my @runs = grep { ($_->{run_id} // '') eq $json->{run_id} } $brood->log_lines;
    ok(@runs >= 1, 'the run has its line in the log');
};

subtest 'after a restart' => sub {
    $brood->restart;
    is($brood->sh(alice => 'cat note.txt; stat -c %u:%g note.txt; echo more >> note.txt; cat note.txt')->{stdout},
        "hello\n1000:1000\nhello\nmore\n", 'the files are there and ours');
    is($brood->sh(bob => 'cat note.txt')->{exit_code}, 1, 'and not for bob');
    $brood->stop;
};

done_testing;
