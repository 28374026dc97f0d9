<?php
if (($_REQUEST['u'] ?? '') === 'admin' && password_verify($_REQUEST['p'] ?? '', '$2y$10$abcdefghijklmnopqrstuu0d8Fv0m3sYg5zv1vNq3q7v5uL1mWm2e')) {
    echo 'welcome';
} else {
    http_response_code(401);
    echo 'no';
}
