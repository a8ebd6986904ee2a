<?php
// SPDX-License-Identifier: Apache-2.0
function inner() { throw new Exception("told to"); }
switch ($argv[1]) {
case "hello": echo "Hello, World!\n"; break;
case "stdin": echo stream_get_contents(STDIN); break;
case "args": foreach (array_slice($argv, 2) as $a) echo "[$a]"; echo "\n"; break;
case "env": echo getenv("GREETING"), "\n"; break;
case "exit": exit(3);
case "throw": inner(); break;
case "loop": for (;;); break;
case "alloc": echo strlen(str_repeat("x", 1 << 30)), "\n"; break;
case "flood": echo str_repeat("x", 10485760); break;
case "threads":
    $n = 0;
    foreach ([1, 2, 3, 4] as $i) { passthru("exit $i", $code); $n += $code; }
    echo "$n\n";
    break;
case "write": file_put_contents("/work/outputs/made.txt", "made here\n"); break;
case "read": echo file_get_contents("in.txt"); break;
case "net": echo @fsockopen("1.1.1.1", 80, $no, $text, 2) ? "connected\n" : "none\n"; break;
}
