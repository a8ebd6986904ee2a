# SPDX-License-Identifier: Apache-2.0
# /v1/runs from outside: the shapes of API.md, each limit at its bounds and beyond, files in and artifacts out,
# sets of artifacts that somebody made to do harm, runs that go on without their client, and cancelling.
use lib 't/lib';
use Brood;
use Digest::SHA qw(sha256_hex);
use Mojo::JSON qw(encode_json);
use Time::HiRes qw(time);

my $brood = Brood->start('languages-dir' => '', 'v1-runs-timeout-max' => '10s');

# One request: its JSON with the status as {http}.
sub ask {
    my ($method, $path, $body, %headers) = @_;
    my $res = $brood->request($method, $path, (defined $body ? (body => $body) : ()), headers => \%headers, timeout => 40) // {status => 0};
    return {http => $res->{status}, headers => $res->{headers}, artifacts => [], stdout => '', error => '', code => '',
        ref $res->{json} eq 'HASH' ? %{$res->{json}} : ()};
}
sub run { return ask(POST => '/v1/runs', {@_}) }
sub ended { my ($id) = @_; my $r; until_true(15, sub { $r = ask(GET => "/v1/runs/$id"); $r->{http} != 200 || $r->{status} !~ /^(?:queued|running)$/ }); return $r }
sub fetch { my ($url) = @_; return $brood->request(GET => $url =~ s{^https?://[^/]+}{}r) }
sub upload {
    my ($bytes) = @_;
    return ask(POST => '/v1/files', "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"in\"\r\n\r\n$bytes\r\n--b--\r\n",
        'Content-Type' => 'multipart/form-data; boundary=b')->{id};
}

subtest 'the shape' => sub {
    my $r = run(cmd => 'echo "$1:$GREETING"; cat; pwd; ls -a; echo problem >&2; exit 3', args => ['one'], stdin => "in\n", env => {GREETING => 'hi'});
    is($r->{http}, 200, 'answered') or diag(encode_json($r));
    like($r->{id}, qr/^run_[a-z0-9]{20,}$/, 'id');
    is_deeply([@$r{qw(status exit_code stdout stderr reason signal)}],
        ['failed', 3, "one:hi\nin\n/work\n.\n..\noutputs\n", "problem\n", 'exit', undef], 'what it did');
    is_deeply($r->{limits}, {timeout_ms => 5000, memory_mb => 256, cpu_ms => 5000, max_output_bytes => 1048576,
        max_artifact_bytes => 5242880, max_artifact_files => 10}, 'the default limits');
    like($r->{created_at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'created_at');
    is($r->{code_sha256}, sha256_hex('echo "$1:$GREETING"; cat; pwd; ls -a; echo problem >&2; exit 3'), 'code_sha256');
    is_deeply([sort keys %{$r->{usage}}], [qw(cpu_ms max_rss_mb wall_ms)], 'usage');
    is_deeply($r->{artifacts}, [], 'no artifacts');
    my $again = ask(GET => "/v1/runs/$r->{id}");
    delete @$_{qw(headers)} for $r, $again;
    is_deeply($again, $r, 'GET shows the same');
    is(run(cmd => 'true')->{status}, 'succeeded', 'succeeded');
    is(run(cmd => 'kill -9 $$')->{status}, 'failed', 'killed by itself: failed');
    is(run(cmd => 'sleep 9', limits => {timeout_ms => 300})->{status}, 'timeout', 'timeout');
    is(run(cmd => 'x=$(head -c 200M /dev/zero | tr "\0" x)', limits => {memory_mb => 64})->{status}, 'oom', 'oom');
    is(run(cmd => 'while :; do :; done', limits => {cpu_ms => 1000, timeout_ms => 9000})->{reason}, 'cpu_limit', 'cpu_ms');
    is(run(cmd => 'printf "\377\0"', encoding => 'base64')->{stdout}, '/wA=', 'bytes as base64');
    $r = run(cmd => 'printf 123456789', limits => {max_output_bytes => 4});
    ok($r->{stdout} eq '1234' && $r->{stdout_truncated} && $r->{stdout_bytes} == 9, 'output is cut');
};

subtest 'a namespace of its own, or none' => sub {
    is(run(cmd => 'echo kept >file', namespace_id => 'alice')->{status}, 'succeeded', 'in a namespace');
    is(run(cmd => 'cat file', namespace_id => 'alice')->{stdout}, "kept\n", 'which keeps its files');
    is(run(cmd => 'ls')->{stdout}, "outputs\n", 'a fresh one has none');
    run(cmd => 'echo x >outputs/old', namespace_id => 'alice');
    is(run(cmd => 'ls outputs', namespace_id => 'alice')->{stdout}, '', 'outputs is empty at the start');
    ok(!grep({ /fresh/ } $brood->volumes), 'a fresh one leaves nothing on the disk');
};

subtest 'refused' => sub {
    my $refused = sub {
        my ($what, $status, $word, $body, %more) = @_;
        my $r = ask($more{method} // 'POST', $more{path} // '/v1/runs', $body);
        ok($r->{http} == $status && !ref $r->{error} && $r->{error} =~ /\Q$word\E/ && $r->{code} =~ /^[a-z_]+$/, "$what: $status, $word")
          or diag(encode_json($r));
    };
    my %bounds = (timeout_ms => [1, 10000], memory_mb => [16, 512], cpu_ms => [1, 20000], max_output_bytes => [1, 2097152],
        max_artifact_bytes => [0, 20971520], max_artifact_files => [0, 10]);
    for my $name (sort keys %bounds) {
        my ($least, $most) = @{$bounds{$name}};
        for my $fits ($least == 1 ? () : $least, $most) {
            my $r = run(cmd => 'true', limits => {$name => $fits});
            ok($r->{http} == 200 && $r->{limits}{$name} == $fits, "$name $fits");
        }
        for my $beyond ($least - 1, $most + 1) {
            $refused->("$name $beyond", 400, "limits.$name", {cmd => 'true', limits => {$name => $beyond}});
            $refused->("$name $beyond names the limit", 400, $most, {cmd => 'true', limits => {$name => $beyond}});
        }
    }
    $refused->('nothing to run', 400, 'cmd is missing', {});
    $refused->('both', 400, 'exclude', {cmd => 'true', language => 'bash', code => 'true'});
    $refused->('an unknown language', 400, 'available:', {language => 'cobol', code => ''});
    $refused->('too much code', 400, 'code has 204801 bytes, at most 204800', {language => 'bash', code => '#' x 204801});
    $refused->('no JSON', 400, 'JSON', 'hello');
    $refused->('a bad path', 400, 'files[1].path', {cmd => 'true', files => [{id => 'file_x', path => 'a'}, {id => 'file_x', path => '../a'}]});
    $refused->('an unknown file', 404, 'files[0].id', {cmd => 'true', files => [{id => 'file_x', path => 'a'}]});
    $refused->('an unknown run', 404, 'no such run', undef, method => $_, path => '/v1/runs/run_' . 'a' x 26) for qw(GET DELETE);
    $refused->('no id', 404, 'no such run', undef, method => 'GET', path => '/v1/runs/..%2f');
    $refused->('PUT', 405, 'takes', undef, method => 'PUT', path => '/v1/runs');
};

subtest 'files in, artifacts out' => sub {
    my @ids = map { upload($_) } "first\n", join('', map { chr($_ % 256) } 0 .. 99_999);
    my $r = run(cmd => 'cat a/b/one; sha256sum <two; cp two outputs/copy.bin; mkdir -p outputs/sub; echo "a,b" >outputs/sub/t.csv; ls -l a/b/one',
        files => [{id => $ids[0], path => 'a/b/one'}, {id => $ids[1], path => 'two'}]);
    my $want = sha256_hex(join '', map { chr($_ % 256) } 0 .. 99_999);
    like($r->{stdout}, qr/\Afirst\n$want  -\n-rw/, 'they are where they were wanted') or diag(encode_json($r));
    my %by_name = map { $_->{name} => $_ } @{$r->{artifacts}};
    is_deeply([sort keys %by_name], ['copy.bin', 'sub/t.csv'], 'artifacts have relative names') or diag(encode_json($r));
    is_deeply([@{$by_name{'copy.bin'} // {}}{qw(size sha256 content_type)}], [100_000, $want, 'application/octet-stream'], 'size, hash, type');
    like($by_name{'sub/t.csv'}{content_type}, qr{^text/csv}, 'a type by its name');
    is(sha256_hex(fetch($by_name{'copy.bin'}{url} // '/')->{body}), $want, 'the URL gives the bytes');
    my $again = ask(GET => "/v1/runs/$r->{id}");
    is_deeply([map { $_->{sha256} } @{$again->{artifacts}}], [map { $_->{sha256} } @{$r->{artifacts}}], 'GET lists them');
    is(fetch($again->{artifacts}[0]{url})->{status}, 200, 'with URLs that work');
    is(run(cmd => 'echo x >>in; cat in', files => [{id => $ids[0], path => 'in'}])->{stdout}, "first\nx\n", 'a run may change its copy');
    is(run(cmd => 'cat in', files => [{id => $ids[0], path => 'in'}])->{stdout}, "first\n", 'and the next has its own');
};

subtest 'artifacts at the limits' => sub {
    my $r = run(cmd => 'for i in 1 2 3; do head -c 100 /dev/zero >outputs/$i; done', limits => {max_artifact_bytes => 250, max_artifact_files => 10});
    ok(@{$r->{artifacts}} == 2 && $r->{artifacts_dropped} == 1 && $r->{status} eq 'succeeded', 'bytes') or diag(encode_json($r));
    $r = run(cmd => 'for i in 1 2 3; do echo >outputs/$i; done', limits => {max_artifact_files => 2});
    ok(@{$r->{artifacts}} == 2 && $r->{artifacts_dropped} == 1, 'files') or diag(encode_json($r));
    $r = run(cmd => 'head -c 100 /dev/zero >outputs/x', limits => {max_artifact_bytes => 100, max_artifact_files => 1});
    ok(@{$r->{artifacts}} == 1 && $r->{artifacts_dropped} == 0, 'exactly') or diag(encode_json($r));
    $r = run(cmd => 'echo >outputs/x', limits => {max_artifact_files => 0});
    is(scalar @{$r->{artifacts}}, 0, 'none wanted') or diag(encode_json($r));
};

subtest 'artifacts that mean harm' => sub {
    my %more = (limits => {timeout_ms => 9000, cpu_ms => 9000});
    my $r = run(cmd => 'cd outputs; ln -s /etc/passwd link; ln -s .. up; mkfifo fifo; ln -s /work/outputs dir; echo ok >file; mkdir d; ln -s ../../.. d/up', %more);
    is_deeply([map { $_->{name} } @{$r->{artifacts}}], ['file'], 'links and pipes are not followed') or diag(encode_json($r));
    my $name = "a\nb\"\\\t\x01..%2f<x>.txt";
    $r = run(cmd => 'echo evil >"outputs/$1"; mkdir -p "outputs/.../..."; echo >"outputs/.../.../...x"', args => [$name]);
    my ($evil) = grep { $_->{name} eq $name } @{$r->{artifacts}};
    ok($evil, 'a name with a newline comes as it is') or diag(encode_json($r));
    my $got = fetch($evil->{url} // '/');
    ok($got->{status} == 200 && $got->{body} eq "evil\n" && $got->{headers}{'content-disposition'} !~ /[\x00-\x1f]/ && ($got->{head} !~ /\r\n[^:\r]*b"/),
        'and breaks no header') or diag($got->{head});
    $r = run(cmd => 'echo >"outputs/$(printf "\377\376")"; echo >outputs/' . 'n' x 255);
    is(scalar @{$r->{artifacts}}, 2, 'names that are no text, and long ones') or diag(encode_json($r));
    $r = run(cmd => 'truncate -s 1T outputs/sparse || truncate -s 1G outputs/sparse; echo small >outputs/small', %more);
    is_deeply([map { $_->{name} } @{$r->{artifacts}}], ['small'], 'a sparse terabyte is left out') or diag(encode_json($r));
    # Something that survives the run would go on writing: nothing may, and what was collected is one piece.
    $r = run(cmd => '(trap "" TERM HUP; exec setsid bash -c "while :; do echo growing >>/work/outputs/log; done") & sleep 0.2; echo done', %more);
    my ($log) = grep { $_->{name} eq 'log' } @{$r->{artifacts}};
    ok($r->{stdout} eq "done\n" && $log, 'a file that grew until the end') or diag(encode_json($r));
    $got = fetch($log->{url} // '/');
    ok(length $got->{body} == $log->{size} && sha256_hex($got->{body}) eq $log->{sha256}, 'has the size and hash it was said to have');
    # And what a session beside the run goes on writing, while it is collected.
    $brood->execute({namespace_id => 'beside', session => 's', cmd => 'while [ ! -e stop ]; do echo growing >>outputs/log; done >/dev/null 2>&1 &'});
    my @bad;
    for (1 .. 5) {
        $r = run(cmd => 'until [ -s outputs/log ]; do sleep 0.01; done; echo done', namespace_id => 'beside', limits => {timeout_ms => 9000, cpu_ms => 9000, max_artifact_bytes => 20 << 20});
        my ($a) = @{$r->{artifacts}};
        my $bytes = $a ? fetch($a->{url})->{body} : '';
        push @bad, encode_json($r) if $r->{stdout} ne "done\n" || ($a && (length $bytes != $a->{size} || sha256_hex($bytes) ne $a->{sha256} || $bytes =~ /^(?!growing$)./m));
    }
    is_deeply(\@bad, [], 'what grows meanwhile is left out, or is one piece with the right hash');
    $brood->execute({namespace_id => 'beside', cmd => 'touch stop'});
    $r = run(cmd => 'rm -rf outputs; ln -s /etc outputs', %more);
    is_deeply($r->{artifacts}, [], 'outputs is a link') or diag(encode_json($r));
    $r = run(cmd => 'rm -rf outputs; echo >outputs', %more);
    ok($r->{http} == 200 && !@{$r->{artifacts}}, 'outputs is a file') or diag(encode_json($r));
    $r = run(cmd => 'chmod 0 outputs; echo', %more);
    is($r->{http}, 200, 'outputs cannot be read') or diag(encode_json($r));
    $r = run(cmd => 'd=outputs; for i in $(seq 200); do d=$d/d; mkdir $d; done; echo deep >$d/file', %more);
    is($r->{http}, 200, 'deep directories') or diag(encode_json($r));
};

subtest 'a hundred thousand artifacts' => sub {
    # In memory, as it takes long on many a disk: a page of a fresh namespace's size is an inode of it.
    my $large = Brood->start('limits-memory' => '1G', 'namespaces-fresh' => '450M', 'v1-runs-timeout-max' => '60s', 'v1-runs-cpu-max' => '60s');
    my $r = $large->request(POST => '/v1/runs', body => {cmd => 'cd outputs; seq 100000 | xargs touch; echo $?',
        limits => {timeout_ms => 60000, cpu_ms => 60000, memory_mb => 512}}, timeout => 100)->{json};
    is_deeply([@$r{qw(stdout artifacts_dropped)}, scalar @{$r->{artifacts} // []}], ["0\n", 99990, 10], 'ten come, and the others are counted')
      or diag(encode_json($r));
    $large->stop;
};

subtest 'files that cannot be put there' => sub {
    my $id = upload("content\n");
    my $put = sub { run(namespace_id => 'tricks', cmd => 'cat in', files => [{id => $id, path => $_[0]}]) };
    run(namespace_id => 'tricks', cmd => 'mkdir dir shut; ln -s loop loop; echo >file; ln -s /etc abroad; chmod 0 shut');
    for ('dir', 'loop/x', 'file/x', 'abroad/x', 'shut/x') {
        my $r = $put->($_);
        ok($r->{http} == 400 && $r->{error} =~ /^files: / && $r->{code} eq 'bad_request', "$_: 400, files") or diag(encode_json($r));
    }
    is($put->('in')->{stdout}, "content\n", 'elsewhere it can');
    ok(!(grep { $_->{event} eq 'child_failed' } $brood->log_lines), 'none of this is our fault');
};

subtest 'a policy that allows less' => sub {
    my $main = $brood;
    my $dir = Brood::_temp_dir();
    spew("$dir/policy.yaml", "policies:\n  default: {memory_mb: 64, timeout_max_ms: 2000, cpu_max_ms: 1500, output_max_kb: 1, tmp_mb: 8}\n");
    $brood = Brood->start(dir => $dir, 'policy-file' => "$dir/policy.yaml", 'namespaces-fresh' => '1M', 'languages-dir' => '');
    for ({cmd => 'ulimit -t'}, {language => 'bash', code => 'ulimit -t'}) {
        my $r = run(%$_);
        is_deeply([@$r{qw(http stdout)}], [200, "2\n"], 'what nobody asked for is less then') or diag(encode_json($r));
        is_deeply([@{$r->{limits}}{qw(timeout_ms memory_mb cpu_ms max_output_bytes)}], [2000, 64, 1500, 1024], 'and limits says so');
        my $again = ask(GET => "/v1/runs/$r->{id}");
        is_deeply($again->{limits}, $r->{limits}, 'later, too');
    }
    is(run(cmd => 'sleep 9')->{reason}, 'timeout', 'it holds');
    for (['memory_mb', 65], ['timeout_ms', 2001], ['cpu_ms', 1501]) {
        my $r = run(cmd => 'true', limits => {$_->[0] => $_->[1]});
        ok($r->{http} == 400 && $r->{error} =~ /the policy default allows at most/, "$_->[0] asked for: 400") or diag(encode_json($r));
        is(run(cmd => 'true', limits => {$_->[0] => $_->[1] - 1})->{limits}{$_->[0]}, $_->[1] - 1, 'at most: fine');
    }
    my $id = upload('x' x (2 << 20));
    my $r = run(cmd => 'true', files => [{id => $id, path => 'in'}]);
    is_deeply([@$r{qw(http status reason exit_code signal)}], [200, 'failed', 'disk', undef, undef], 'no room for a file: disk') or diag(encode_json($r));
    $r = run(language => 'bash', code => 'true', files => [{id => $id, path => 'in'}]);
    is_deeply([@$r{qw(http status reason)}], [200, 'failed', 'disk'], 'beside a program, too') or diag(encode_json($r));
    $brood->stop;
    $brood = $main;
};

subtest 'without waiting' => sub {
    my $begin = time;
    my $r = ask(POST => '/v1/runs', {cmd => 'sleep 1; echo late'}, Prefer => 'respond-async');
    ok($r->{http} == 202 && $r->{status} eq 'running' && time - $begin < 1, '202 at once') or diag(encode_json($r));
    is($r->{headers}{location}, "/v1/runs/$r->{id}", 'with its place');
    my $state;
    ok(until_true(10, sub { ($state = ask(GET => "/v1/runs/$r->{id}")->{status}) ne 'queued' }) && $state eq 'running', 'GET: running');
    my $end = ended($r->{id});
    is_deeply([@$end{qw(id status stdout)}], [$r->{id}, 'succeeded', "late\n"], 'and then what it did') or diag(encode_json($end));

    $r = ask(POST => '/v1/runs', {cmd => 'echo begun; sleep 60', namespace_id => 'slow'}, Prefer => 'respond-async');
    my $queued = ask(POST => '/v1/runs', {cmd => 'echo never', namespace_id => 'slow'}, Prefer => 'respond-async');
    ok(until_true(10, sub { ask(GET => "/v1/runs/$queued->{id}")->{status} eq 'queued' }), 'the second one is queued');
    is(ask(GET => "/v1/runs/$r->{id}")->{status}, 'running', 'the first one is not');
    for ($queued, $r) {
        my $cancel = ask(DELETE => "/v1/runs/$_->{id}");
        ok($cancel->{http} == 202 && $cancel->{id} eq $_->{id}, 'DELETE') or diag(encode_json($cancel));
        $end = ended($_->{id});
        is_deeply([@$end{qw(status reason)}], [qw(killed cancelled)], 'it is killed') or diag(encode_json($end));
        ok($end->{stdout} !~ /never/, 'and did not run on');
        is(ask(DELETE => "/v1/runs/$_->{id}")->{http}, 409, 'a second DELETE: 409');
    }
    is(run(cmd => 'echo next', namespace_id => 'slow')->{stdout}, "next\n", 'the namespace is free');
    ask(POST => '/v1/runs', {cmd => 'until [ -e go ]; do sleep 0.05; done', namespace_id => 'turns', limits => {timeout_ms => 10000}}, Prefer => 'respond-async');
    $r = ask(POST => '/v1/runs', {cmd => 'until [ -e end ]; do sleep 0.05; done; echo done', namespace_id => 'turns'}, Prefer => 'respond-async');
    my $status = sub { ask(GET => "/v1/runs/$r->{id}")->{status} };
    ok(until_true(10, sub { $status->() eq 'queued' }), 'one that waits for its turn');
    my $home = (glob "$brood->{fs_root}/turns*")[0];
    spew("$home/go", '');
    ok(until_true(10, sub { $status->() eq 'running' }), 'gets it');
    spew("$home/end", '');
    is(ended($r->{id})->{stdout}, "done\n", 'and ends');
};

subtest 'more than may be active' => sub {
    my $small = Brood->start('namespaces-active-max' => 1, 'namespaces-spares' => 1);
    my $run = sub { return $small->request(POST => '/v1/runs', body => {cmd => $_[0]}, headers => {Prefer => 'respond-async'})->{json}{id} };
    my $status = sub { return $small->request(GET => "/v1/runs/$_[0]")->{json}{status} };
    my $first = $run->('sleep 60');
    ok(until_true(10, sub { $status->($first) eq 'running' }), 'one is running');
    my $second = $run->('echo second');
    ok(until_true(10, sub { $status->($second) eq 'queued' }), 'one that waits for a zygote is queued');
    $small->request(DELETE => "/v1/runs/$first");
    ok(until_true(10, sub { $status->($second) eq 'succeeded' }), 'and runs when there is one');
    $small->stop;
};

subtest 'a client that leaves' => sub {
    my $conn = $brood->connect;
    $conn->put(Brood::Conn->request(POST => '/v1/runs', body => {cmd => 'touch started; sleep 30', namespace_id => 'left'}));
    ok($brood->wait_file('started'), 'its run is on');
    $conn->close;
    my $begin = time;
    is(run(cmd => 'echo next', namespace_id => 'left')->{stdout}, "next\n", 'its run is ended');
    cmp_ok(time - $begin, '<', 10, 'at once');
};

subtest 'after a restart' => sub {
    my $r = run(cmd => 'echo kept >outputs/kept.txt; echo out');
    $brood->restart;
    my $again = ask(GET => "/v1/runs/$r->{id}");
    is($again->{stdout}, "out\n", 'the run is there') or diag(encode_json($again));
    is(fetch($again->{artifacts}[0]{url} // '/')->{body}, "kept\n", 'and what it made');
};
$brood->stop;
done_testing;
