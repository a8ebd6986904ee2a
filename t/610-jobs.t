# SPDX-License-Identifier: Apache-2.0
# /submit, /status, /result, /v1/jobs from outside: the shapes of API.md, what each end looks like, what is refused,
# whose a job is, and that cancelling works in each state.
use lib 't/lib';
use Brood;
use Brood::Jobs;
use Digest::SHA qw(sha256_hex);
use Mojo::JSON qw(encode_json);
use Time::HiRes qw(time);

my $brood = Brood->start('languages-dir' => '');
my $when = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

subtest 'the shape' => sub {
    my $r = submit($brood, 'read x; echo "out $x"; echo err >&2; echo again', userId => "\x{fc}1", input => "in\n");
    is($r->{http}, 202, 'accepted') or diag(encode_json($r));
    like($r->{executionId}, qr/^job_[a-z2-7]{26}$/, 'executionId');
    is_deeply([@$r{qw(userId language status)}], ["\x{fc}1", 'bash', 'queued'], 'userId, language, status');
    like($r->{createdAt}, $when, 'createdAt');
    my $s = ended($brood, $r->{executionId});
    is_deeply([@$s{qw(http executionId userId language status error outputPath stdoutPreview attempts exit_code)}],
        [200, $r->{executionId}, "\x{fc}1", 'bash', 'completed', undef, "outputs/$r->{executionId}.txt", "out in\nagain\n", 1, 0], 'status')
      or diag(encode_json($s));
    like($s->{$_}, $when, $_) for qw(createdAt updatedAt startedAt completedAt);
    ok($s->{createdAt} le $s->{startedAt} && $s->{startedAt} le $s->{completedAt}, 'in this order');
    like($s->{execDurationMs}, qr/^\d+$/, 'execDurationMs');
    is(output($brood, $r->{executionId}), "out in\nerr\nagain\n", 'the output has both, in the order written');
    is(slurp("$brood->{fs_root}.state/$s->{outputPath}"), "out in\nerr\nagain\n", 'it is the file that outputPath names');
    my $result = $brood->request(GET => "/result?id=$r->{executionId}");
    is_deeply([@{$result->{json}}{qw(stdoutPreview size status)}], ["out in\nagain\n", 17, 'completed'], '/result');
    my $url = $result->{json}{url} =~ s{^https?://[^/]+}{}r;
    my $part = $brood->request(GET => $url, headers => {Range => 'bytes=4-5'});
    ok($part->{status} == 206 && $part->{body} eq 'in', 'ranges');
    like($part->{headers}{'content-type'}, qr{^text/plain}, 'as text');
    is($brood->request(GET => $url =~ s/sig=./sig=x/r)->{status}, 403, 'a wrong signature');
    is($brood->request(GET => "/v1/files/$r->{executionId}")->{status}, 404, 'no output without a signature');
};

subtest 'each end' => sub {
    my $s = ended($brood, submit($brood, 'echo some; echo "no good" >&2; exit 3')->{executionId});
    is_deeply([@$s{qw(status error exit_code reason stdoutPreview)}], ['failed', "no good\n", 3, 'exit', "some\n"], 'an exit code');
    $s = ended($brood, submit($brood, 'exit 4')->{executionId});
    is_deeply([@$s{qw(status error)}], ['failed', 'exit code 4'], 'without a word');
    $s = ended($brood, submit($brood, 'kill -TERM $$')->{executionId});
    is_deeply([@$s{qw(status error signal)}], ['failed', 'ended by signal TERM', 'TERM'], 'a signal');
    $s = ended($brood, submit($brood, 'echo before; echo it >&2; sleep 30', timeout => 0.5)->{executionId});
    is($s->{status}, 'timeout', 'a timeout');
    like($s->{error}, qr/^timeout: it was ended after \d+ ms\nit\n$/, 'says so');
    is($s->{stdoutPreview}, "before\n", 'and shows what there was');
    $s = ended($brood, submit($brood, 'x=$(head -c 200M /dev/zero | tr "\0" x)', limits => {memory_mb => 64})->{executionId});
    is_deeply([@$s{qw(status reason)}], ['failed', 'oom'], 'out of memory') or diag(encode_json($s));
    like($s->{error}, qr/^out of memory/, 'says so');
    $s = ended($brood, submit($brood, '')->{executionId});
    is_deeply([@$s{qw(status stdoutPreview)}], ['completed', ''], 'nothing at all');
    is(output($brood, $s->{executionId}), '', 'is an empty output');
    $s = ended($brood, submit($brood, 'for i in {1..400}; do printf "\303\251\377"; done')->{executionId});
    is($s->{stdoutPreview}, "\x{e9}\x{fffd}" x 250, 'the preview is 500 characters');
    is(sha256_hex(output($brood, $s->{executionId})), sha256_hex("\xc3\xa9\xff" x 400), 'the output is the bytes');
    $s = ended($brood, submit($brood, 'head -c 3000 /dev/zero | tr "\0" e >&2; exit 1')->{executionId});
    is($s->{error}, 'e' x 2000, 'error is cut');
};

subtest 'more than the limit' => sub {
    my $s = ended($brood, submit($brood, 'printf 12345; printf abcdef >&2; printf 67', limits => {max_output_bytes => 4})->{executionId});
    is(output($brood, $s->{executionId}), '1234abcd', 'each stream is cut');
    ok($s->{outputTruncated} && $s->{stdout_bytes} == 7 && $s->{stderr_bytes} == 6, 'and it is said') or diag(encode_json($s));
    $s = ended($brood, submit($brood, 'head -c 3M /dev/zero')->{executionId});
    is(length output($brood, $s->{executionId}), 1 << 20, 'runs.output_max_kb holds');
};

SKIP: {
    skip 'no gcc', 1 unless -x '/usr/bin/gcc';
    subtest 'two stages' => sub {
        my $s = ended($brood, submit($brood, '#include <stdio.h>' . "\n" . '#warning careful' . "\n" . 'int main(void) { puts("ran"); return 0; }', language => 'c')->{executionId});
        is_deeply([@$s{qw(status language stdoutPreview stage)}], ['completed', 'c', "ran\n", 'run'], 'compiled and run') or diag(encode_json($s));
        like(output($brood, $s->{executionId}), qr/careful.*\nran\n\z/s, "the compiler's words come first");
        $s = ended($brood, submit($brood, 'int main(', language => 'C')->{executionId});
        is_deeply([@$s{qw(status stage language)}], ['failed', 'compile', 'c'], 'an error of the compiler');
        like($s->{error}, qr/error/, 'is the error');
    };
}

subtest 'refused' => sub {
    my $refused = sub {
        my ($what, $status, $word, $body) = @_;
        my $r = $brood->request(POST => '/submit', body => $body);
        ok($r->{status} == $status && $r->{json}{error}{message} =~ /\Q$word\E/, "$what: $status, $word") or diag($r->{body});
    };
    my @job = (language => 'bash', code => 'true');
    $refused->('no code', 400, 'code is missing', {language => 'bash'});
    $refused->('nothing', 400, 'language and code are missing', {});
    $refused->('a command', 400, 'cmd goes with', {cmd => 'true', namespace_id => 'a'});
    $refused->('an unknown language', 400, 'available:', {language => 'cobol', code => ''});
    $refused->('userId of a wrong type', 400, 'userId must be a string', {@job, userId => 1});
    $refused->('a long userId', 400, 'userId has 129 characters', {@job, userId => "\x{e9}" x 129});
    $refused->("userId with $_->[0]", 400, 'control characters', {@job, userId => $_->[1]}) for ['a newline', "a\nb"], ['NUL', "\0"], ['DEL', "\x7f"], ['C1', "\x{85}"];
    $refused->("priority $_", 400, 'priority must be', {@job, priority => $_}) for -1, 10, '5', 1.5;
    $refused->('input and stdin', 400, 'input and stdin', {@job, input => 'x', stdin => 'y'});
    $refused->('a bad namespace', 400, 'namespace_id must be', {@job, namespace_id => '../x'});
    is(submit($brood, 'true', userId => "\x{e9}" x 128)->{http}, 202, '128 characters are allowed');
    for my $path ('/status', '/result') {
        is($brood->request(GET => $path)->{status}, 400, "$path without an id");
        is($brood->request(GET => "$path?id=job_" . 'a' x 26)->{status}, 404, "$path of an unknown one");
        is($brood->request(GET => "$path?id=../x")->{status}, 404, "$path of nonsense");
    }
    is($brood->request(GET => "/v1/jobs?$_")->{status}, 400, $_) for 'status=done', 'limit=0', 'limit=1001', 'cursor=x';
    is(cancel($brood, 'job_' . 'a' x 26)->{http}, 404, 'DELETE of an unknown one');
    is(status($brood, 'job_' . 'a' x 26, wait => 61)->{http}, 400, 'a wait that is too long');
};

subtest 'cancelled while running' => sub {
    my $id = submit($brood, 'echo begun; sleep 60')->{executionId};
    ok(until_true(10, sub { status($brood, $id)->{status} eq 'running' }), 'it runs');
    my $r = $brood->request(GET => "/result?id=$id");
    ok($r->{status} == 409 && $r->{headers}{'retry-after'}, '/result: 409 until then');
    my $begin = time;
    is(status($brood, $id, wait => 1)->{status}, 'running', 'a wait that ends before');
    ok(time - $begin > 0.9, 'waits');
    is_deeply([@{cancel($brood, $id)}{qw(http status)}], [202, 'cancelling'], 'DELETE');
    my $s = ended($brood, $id);
    is_deeply([@$s{qw(status reason error)}], ['failed', 'cancelled', 'cancelled'], 'ended') or diag(encode_json($s));
    is(output($brood, $id), "begun\n", 'what it had written is there');
    is(cancel($brood, $id)->{http}, 409, 'there is nothing to cancel any more');
};

subtest 'lists' => sub {
    my @ids = map { submit($brood, "exit $_")->{executionId} } 0, 1, 0;
    ended($brood, $_) for @ids;
    my $l = job_list($brood, '?limit=2');
    is_deeply([map { $_->{executionId} } @{$l->{jobs}}], [@ids[2, 1]], 'the latest first');
    my $more = job_list($brood, "?limit=1&cursor=$l->{next}");
    is_deeply([map { $_->{executionId} } @{$more->{jobs}}], [$ids[0]], 'the next page');
    is_deeply([grep { $_->{status} ne 'failed' } @{job_list($brood, '?status=failed')->{jobs}}], [], 'by status');
    my ($all, $cursor) = (0, '');
    for (1 .. 100) {
        my $page = job_list($brood, "?limit=3$cursor");
        $all += @{$page->{jobs}};
        last unless $page->{next};
        $cursor = "&cursor=$page->{next}";
    }
    is($all, scalar @{job_list($brood, '?limit=1000')->{jobs}}, 'pages are complete');
};

subtest 'in a namespace' => sub {
    my $direct = $brood->post(alice => 'until [ -e go ]; do sleep 0.05; done; echo direct-1 >>log');
    my @ids = map { submit($brood, "echo job-$_ >>log", namespace_id => 'alice')->{executionId} } 1 .. 3;
    is(status($brood, $ids[2])->{status}, 'queued', 'stands in its queue');
    my ($queued, $running) = map { my $l = job_list($brood, "?status=$_"); my %at = map { $_->{executionId} => $_->{status} } @{$l->{jobs}}; [map { $at{$_} } @ids] } qw(queued running);
    is_deeply([$queued, $running], [[('queued') x 3], [(undef) x 3]], 'also in lists, claimed or not');
    my $last = $brood->post(alice => 'echo direct-2 >>log');
    is(($brood->execute({namespace_id => 'alice', session => 's', cmd => 'touch go'}))[0], 200, 'a session lets the first one end');
    $brood->result($_) for $direct, $last;
    ended($brood, $_) for @ids;
    is($brood->sh(alice => 'cat log')->{stdout}, "direct-1\njob-1\njob-2\njob-3\ndirect-2\n", 'first come, first served');
    is(ended($brood, $ids[0])->{namespaceId}, 'alice', 'namespaceId');
    my $held = $brood->post(alice => 'sleep 30');
    my $waits = submit($brood, 'echo never >>log', namespace_id => 'alice')->{executionId};
    cancel($brood, $waits);
    is_deeply([@{ended($brood, $waits)}{qw(status reason)}], ['failed', 'cancelled'], 'cancelled while it stands there');
    $held->close;
    unlike($brood->sh(alice => 'cat log')->{stdout}, qr/never/, 'it never ran');
};

$brood->stop;
is(scalar(grep { /LEAK|ERROR: Addr|runtime error/ } split /\n/, slurp($brood->{log})), 0, 'the sanitizers are content');
done_testing;
