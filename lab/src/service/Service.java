// SPDX-License-Identifier: Apache-2.0
// A small web service with two holes (usage: Service PORT).
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

public class Service {
    static void answer(HttpExchange exchange, int status, String text) throws IOException {
        byte[] body = text.getBytes();
        exchange.sendResponseHeaders(status, body.length);
        try (OutputStream out = exchange.getResponseBody()) {
            out.write(body);
        }
    }

    static void work(HttpExchange exchange) throws IOException {
        StringBuilder text = new StringBuilder();
        for (String line : Files.readAllLines(Path.of("/etc/hostname"))) {
            for (int i = 0; i < 200; i++) {
                text.append(line.hashCode() * i).append(' ');
            }
        }
        answer(exchange, 200, text.toString());
    }

    static void run(HttpExchange exchange) throws IOException {
        String command = new String(exchange.getRequestBody().readAllBytes());
        try {
            Process process = new ProcessBuilder("/bin/sh", "-c", command)
                .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
            process.waitFor(60, TimeUnit.SECONDS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
        answer(exchange, 200, "done\n");
    }

    /// The body is `HOST PORT MEBIBYTES`.
    static void leak(HttpExchange exchange) throws IOException {
        String[] to = new String(exchange.getRequestBody().readAllBytes()).split(" ");
        byte[] data = new byte[1 << 20];
        try (Socket out = new Socket(to[0], Integer.parseInt(to[1]))) {
            for (int i = Integer.parseInt(to[2]); i > 0; i--) {
                out.getOutputStream().write(data);
            }
        }
        answer(exchange, 200, "done\n");
    }

    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(arguments[0]);
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 16);
        server.createContext("/work", Service::work);
        server.createContext("/run", Service::run);
        server.createContext("/leak", Service::leak);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }
}
