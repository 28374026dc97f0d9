<?php
// A page that searches a list and keeps a counter.
$counter = __DIR__ . '/counter';
$visits = (int) @file_get_contents($counter) + 1;
file_put_contents($counter, $visits);
$fruit = array_filter(['apple', 'pear', 'plum'], fn($f) => str_contains($f, $_GET['q'] ?? ''));
echo "<h1>$visits</h1><p>", implode(', ', $fruit), '</p>', str_repeat('<hr>', 50);
