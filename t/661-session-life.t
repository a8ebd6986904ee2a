# SPDX-License-Identifier: Apache-2.0
# Sessions over HTTP: made by their first call, listed, closed, idle, limited in number, FIFO; what of a request is the
# call's and what stays; what is refused.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use Mojo::JSON qw(decode_json);
use Time::HiRes qw(time);

my $brood = Brood->start('sessions-per-namespace' => 3, 'languages-dir' => '');

sub sessions {
    my ($ns) = @_;
    my $res = $brood->request(GET => "/v1/namespaces/$ns/sessions");
    return join ' ', sort map { $_->{name} } @{$res->{json}{sessions}};
}

sub close_session {
    my ($ns, $name) = @_;
    return $brood->request(DELETE => "/v1/namespaces/$ns/sessions/$name");
}

subtest 'made, listed, closed' => sub {
    ok((grep { $_ eq 'session' } @{$brood->request(GET => '/v1/capabilities')->{json}{features}}), 'a feature');
    is(sessions('alice'), '', 'none');
    my $r = $brood->sh(alice => 'x=1; echo hi', session => 's1');
    is_deeply([@$r{qw(http stdout stderr exit_code reason signal)}], [200, "hi\n", '', 0, 'exit', undef], 'a call');
    is_deeply([map { $r->{"session$_"} ? 1 : 0 } qw(_started _ended _interrupted)], [1, 0, 0], 'its session was made for it');
    is($r->{session}, 's1', 'and named');
    $r = $brood->sh(alice => 'echo $x', session => 's1');
    is_deeply([$r->{stdout}, map { $r->{"session$_"} ? 1 : 0 } qw(_started _ended)], ["1\n", 0, 0], 'the second finds it');
    ok(defined $r->{$_} && $r->{$_} =~ /^\d+(\.\d+)?$/, "$_ is a number") for qw(queue_ms wall_ms cpu_ms max_rss_kb run_id);
    is($brood->sh(alice => 'echo "[$x]"', session => 's2')->{stdout}, "[]\n", 'another session of that namespace');
    is($brood->sh(bob => 'echo "[$x]"', session => 's1')->{stdout}, "[]\n", 'another namespace of that session name');
    is($brood->sh(alice => 'echo "[$x]"')->{stdout}, "[]\n", 'a run');
    ok(!exists $brood->sh(alice => 'true')->{session}, 'which has no session');
    is(sessions('alice'), 's1 s2', 'both are listed');
    my ($s1) = grep { $_->{name} eq 's1' } @{$brood->request(GET => '/v1/namespaces/alice/sessions')->{json}{sessions}};
    is_deeply([map { defined $s1->{$_} ? 1 : 0 } qw(busy queued idle_ms age_ms)], [1, 1, 1, 1], 'with facts');
    is_deeply(close_session(alice => 's1')->{json}, {closed => Mojo::JSON->true}, 'closed');
    is(sessions('alice'), 's2', 'and gone');
    is(close_session(alice => 's1')->{status}, 404, 'once');
    is(sessions('bob'), 's1', "not bob's");
    $r = $brood->sh(alice => 'echo "[$x]"', session => 's1');
    ok($r->{session_started} && $r->{stdout} eq "[]\n", 'the name begins anew');
    close_session(@$_) for [alice => 's1'], [alice => 's2'], [bob => 's1'];
};

subtest 'what is of the call' => sub {
    my @s = (session => 'of-call');
    $brood->sh(alice => 'mkdir -p /work/d /work/e; cd /work/d; export A=old; set -- p q', @s);
    is($brood->sh(alice => 'echo "$A $B"; printenv A B; A=changed; C=kept', @s, env => {A => 'new', B => 'b', 'x.y' => 'z'})->{stdout},
        "new b\nnew\nb\n", 'env');
    is($brood->sh(alice => 'echo "$A ${B-unset} $C"; printenv A; env | grep -c "x\.y"', @s)->{stdout}, "old unset kept\nold\n0\n", 'and no longer');
    is($brood->sh(alice => 'env | grep "x\.y"', @s, env => {'x.y' => 'z'})->{stdout}, "x.y=z\n", 'a name that is no identifier');
    is($brood->sh(alice => 'export A=5; echo $A; unset B; echo "[$B]"; declare C=6', @s, env => {A => '1', B => '2'})->{stdout}, "5\n[]\n", 'which a call may change');
    my $r = $brood->sh(alice => 'f() { local A=3; g; }; g() { echo $A; sleep 9; }; f', @s, env => {A => '1', B => '2'}, timeout => 0.2);
    is_deeply([$r->{stdout}, $r->{exit_code}], ["3\n", 130], 'or be interrupted with');
    is($brood->sh(alice => 'echo "$A [$B] $C"', @s)->{stdout}, "old [] 6\n", 'it is taken back all the same');
    my $count = 'printf "\303\244" | wc -m; x=$(printf "\303\244"); echo ${#x} ~';
    is($brood->sh(alice => $count, @s, env => {LC_ALL => 'C', HOME => '/tmp'})->{stdout}, "2\n2 /tmp\n", 'what means something to bash');
    is($brood->sh(alice => $count, @s)->{stdout}, "1\n1 /work\n", 'means it no longer');
    is($brood->sh(alice => 'echo ${#BIG} #' . 'y' x 130_000, @s, env => {BIG => 'z' x 60_000})->{stdout}, "60000\n", 'as much of it as a request may have');
    is($brood->sh(alice => 'pwd; echo $PWD; cd /tmp', @s, cwd => '/work/e')->{stdout}, "/work/e\n/work/e\n", 'cwd');
    is($brood->sh(alice => 'pwd; echo $PWD', @s)->{stdout}, "/work/d\n/work/d\n", 'and no longer');
    is($brood->sh(alice => 'pwd; cd ../e', @s, cwd => '../tmp')->{http}, 400, 'a cwd that is not there: 400');
    is($brood->sh(alice => 'pwd', @s)->{stdout}, "/work/d\n", 'and nothing happened');
    is($brood->sh(alice => 'cat; read x', @s, stdin => "in\n")->{stdout}, "in\n", 'stdin');
    is($brood->sh(alice => 'cat; read x; echo "$?[$x]"', @s)->{stdout}, "1[]\n", 'and no longer');
    is($brood->sh(alice => 'echo "$# $1"; set -- z', @s, args => ['a b', 'c'])->{stdout}, "2 a b\n", 'args');
    is($brood->sh(alice => 'echo "$# $1"', @s)->{stdout}, "2 p\n", 'and no longer');
    $brood->sh(alice => 'false; exit 3', @s, env => {PATH => '/none'});
    ok($brood->sh(alice => 'printenv PATH', @s)->{session_started}, 'a call with env that ends the session');
    $brood->sh(alice => 'rm -r /work/gone; mkdir /work/gone; cd /work/gone', @s);
    is($brood->sh(alice => 'pwd; rmdir /work/gone', @s, cwd => '/work/e')->{stdout}, "/work/e\n", 'the directory to go back to is removed');
    is($brood->sh(alice => 'pwd -P', @s)->{stdout}, "/work/e\n", 'so it stays');
    $r = $brood->sh(alice => 'printf "\377\000a"; printf b >&2', @s, encoding => 'base64');
    is_deeply([@$r{qw(stdout stderr stdout_bytes stderr_bytes)}], ['/wBh', 'Yg==', 3, 1], 'bytes');
    $r = $brood->sh(alice => q{head -c 3000000 /dev/zero | tr '\0' x}, @s);
    ok(length $r->{stdout} == 1048576 && $r->{stdout_truncated} && $r->{stdout_bytes} == 3_000_000, 'too much output is cut and counted');
    is($brood->sh(alice => 'echo ok', @s)->{stdout}, "ok\n", 'and harms nobody');
    cmp_ok($brood->sh(alice => 'x=0; while ((x < 60000)); do ((++x)); done', @s)->{cpu_ms}, '>', 10, 'cpu time');
    cmp_ok($brood->sh(alice => 'sleep 0.2', @s)->{cpu_ms}, '<', 150, 'is that of the call');
    is_deeply($brood->sh(alice => q{perl -e 'syscall 165, 0, 0, 0, 0, 0'}, @s)->{denied}, ['mount'], 'a refused call is named');
    is_deeply($brood->sh(alice => 'true', @s)->{denied}, [], 'once');
    close_session(alice => 'of-call');
};

subtest 'in the order in which they came' => sub {
    my @conns = map { $brood->post(alice => "sleep 0.02; echo $_ >>/tmp/order; n=\$((n+1)); echo \$n", session => 'fifo') } 1 .. 12;
    my @out = map { $brood->result($_)->{stdout} + 0 } @conns;
    is("@out", join(' ', 1 .. 12), 'calls of one session follow each other');
    is($brood->sh(alice => 'cat /tmp/order | tr "\n" " "')->{stdout}, join(' ', 1 .. 12) . ' ', 'as files tell, too');
    my $begin = time;
    my @all = map { $brood->post(alice => 'sleep 0.5; echo $$', session => "beside-$_") } 1 .. 2;
    push @all, $brood->post(alice => 'sleep 0.5; echo $$');
    $brood->result($_) for @all;
    cmp_ok(time - $begin, '<', 1.4, 'different sessions, and a run, do not wait for each other');
    close_session(alice => $_) for qw(fifo beside-1 beside-2);
};

subtest 'limits' => sub {
    is($brood->sh(carol => 'true', session => "c$_")->{http}, 200, "session $_ of 3") for 1 .. 3;
    my ($status, $json, $headers) = $brood->execute({namespace_id => 'carol', cmd => 'true', session => 'c4'});
    is($status, 429, 'one too many');
    is($json->{error}{code}, 'too_many', 'by name');
    ok($headers->{'retry-after'}, 'with Retry-After');
    is($brood->sh(carol => 'echo run')->{stdout}, "run\n", 'a run is none');
    is($brood->sh(dave => 'true', session => 'd')->{http}, 200, "nor is another namespace's");
    $brood->sh(carol => 'exit', session => 'c2');
    is($brood->sh(carol => 'true', session => 'c4')->{http}, 200, 'one ends, another begins');
    is(sessions('carol'), 'c1 c3 c4', 'as listed');
    is($brood->sh(carol => 'ulimit -u; ulimit -n', session => 'c1')->{stdout}, $brood->sh(carol => 'ulimit -u; ulimit -n')->{stdout}, 'rlimits of a run');
    my $r = $brood->sh(carol => q{perl -e '$x = "a" x 60_000_000; print "big\n"'}, session => 'c1', limits => {memory_mb => 32}, timeout => 10);
    isnt($r->{stdout}, "big\n", "limits of a request hold: $r->{reason}");
    close_session(carol => $_) for qw(c1 c3 c4);
};

subtest 'refused' => sub {
    for (['no namespace', {cmd => 'true', session => 's'}], ['a language', {language => 'bash', code => 'true', session => 's'}],
        ['one in a namespace', {language => 'bash', code => 'true', session => 's', namespace_id => 'alice'}], ['empty', {cmd => 'true', namespace_id => 'alice', session => ''}],
        ['a slash', {cmd => 'true', namespace_id => 'alice', session => 'a/b'}], ['65 characters', {cmd => 'true', namespace_id => 'alice', session => 'x' x 65}],
        ['a number', {cmd => 'true', namespace_id => 'alice', session => 1}], ['NUL', {cmd => 'true', namespace_id => 'alice', session => "a\0"}]) {
        my ($status, $json) = $brood->execute($_->[1]);
        is($status, 400, $_->[0]);
        is($json->{error}{code}, 'bad_request', 'bad_request');
    }
    is($brood->sh(alice => 'echo $x', session => 'x' x 64)->{http}, 200, '64 characters are fine');
    close_session(alice => 'x' x 64);
    is($brood->request(POST => '/v1/runs', body => {namespace_id => 'alice', cmd => 'true', session => 's'})->{status}, 400, 'a stored run');
    is($brood->request(GET => '/v1/namespaces/.x/sessions')->{status}, 400, 'a list of no namespace');
    is($brood->request(DELETE => '/v1/namespaces/alice/sessions/a%2Fb')->{status}, 400, 'no session');
    is($brood->request(DELETE => '/v1/namespaces/alice/sessions/nope')->{status}, 404, 'not there');
    is($brood->request(POST => '/v1/namespaces/alice/sessions')->{status}, 405, 'nothing to be posted');
};

subtest 'closed while it works' => sub {
    my $conn = $brood->post(alice => 'touch begun; sleep 60', session => 'busy');
    $brood->wait_file('begun');
    my $next = $brood->post(alice => 'echo next', session => 'busy');
    until_true(5, sub { grep { $_->{name} eq 'busy' && $_->{queued} } @{$brood->request(GET => '/v1/namespaces/alice/sessions')->{json}{sessions}} });
    is(close_session(alice => 'busy')->{status}, 200, 'closed');
    is($brood->result($_, 10)->{reason}, 'cancelled', 'its call is cancelled') for $conn, $next;
    is(sessions('alice'), '', 'none is left');
};

$brood->stop;

subtest 'whose sessions' => sub {
    my %token = map { $_ => "brood_token-of-$_-0123456789abcdef0123456789abcdef" } qw(one two);
    my $dir = Brood::_temp_dir();
    spew("$dir/keys.yaml", "keys:\n" . join '', map { "  - label: $_\n    sha256: " . sha256_hex($token{$_}) . "\n    namespaces: $_-*\n    scopes: [execute]\n" } sort keys %token);
    my $keyed = Brood->start(dir => $dir, 'key-file' => "$dir/keys.yaml");
    my %as = map { $_ => {headers => {Authorization => "Bearer $token{$_}"}} } keys %token;
    my ($status) = $keyed->execute({namespace_id => 'one-a', cmd => 'x=1', session => 's'}, %{$as{one}});
    is($status, 200, 'a key makes one in its namespace');
    is(($keyed->execute({namespace_id => 'one-a', cmd => 'echo $x', session => 's'}, %{$as{two}}))[0], 403, 'no other key has it');
    is(($keyed->execute({namespace_id => 'one-a', cmd => 'echo $x', session => 's'}))[0], 401, 'nor who has none');
    is($keyed->request($_->[0] => "/v1/namespaces/one-a/sessions$_->[1]", %{$as{two}})->{status}, 403, "$_->[0] is refused, too") for [GET => ''], [DELETE => '/s'];
    is($keyed->request(GET => '/v1/namespaces/one-a/sessions')->{status}, 401, 'a list needs a key');
    is(scalar @{$keyed->request(GET => '/v1/namespaces/one-a/sessions', %{$as{one}})->{json}{sessions}}, 1, 'which its own has');
    is($keyed->request(DELETE => '/v1/namespaces/one-a/sessions/s', %{$as{one}})->{status}, 200, 'and closes it');
    $keyed->stop;
};

subtest 'idle' => sub {
    $brood = Brood->start('sessions-idle-s' => 1);
    $brood->sh(alice => 'x=1', session => 's');
    ok(until_true(10, sub { sessions('alice') eq '' }), 'it ends');
    ok($brood->sh(alice => 'echo "[$x]"', session => 's')->{session_started}, 'and begins anew');
    my $conn = $brood->post(alice => 'sleep 2.5; echo on', session => 't');
    is($brood->result($conn)->{stdout}, "on\n", 'one that works is not idle');
    $brood->stop;
};

subtest 'without a bash inside' => sub {
    $brood = Brood->start(zygote => 'exec');
    my ($status, $json) = $brood->execute({namespace_id => 'alice', cmd => 'true', session => 's'});
    is($status, 400, 'refused');
    like($json->{error}{message}, qr/session/, 'by name');
    ok(!(grep { $_ eq 'session' } @{$brood->request(GET => '/v1/capabilities')->{json}{features}}), 'no feature');
    is($brood->sh(alice => 'echo run')->{stdout}, "run\n", 'runs are as before');
    $brood->stop;
};

done_testing;
