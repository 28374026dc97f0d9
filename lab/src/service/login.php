<?php
if (hash('sha256', ($_REQUEST['u'] ?? '') . ':' . ($_REQUEST['p'] ?? '')) === str_repeat('0', 64)) {
    echo 'welcome';
} else {
    http_response_code(401);
    echo 'no';
}
