#!/usr/bin/env python3
"""A model server on 127.0.0.1 that answers as odd servers in the field do.

  tests/field/mock_endpoint.py PORT [TRAIN_CPP]

The model's name picks the scenario: a key of SCENARIOS, which says what the wire does. NAME@N gives
the scenario a number of its own (seconds, characters). The answer is always a valid edit of one
constant of TRAIN_CPP, a different one for each scenario, with the scenario's name in its idea. So a
client that understands the answer has one experiment, and one that does not has none. Drafts that
must not be run say so in theirs. tests/field/endpoints.py runs all scenarios.
"""
import gzip
import http.server
import json
import re
import socketserver
import sys
import time
from pathlib import Path

TRAIN = Path(__file__).absolute().parents[2] / "train.cpp"
DRAFT = "draft that must not be run"

SCENARIOS = {
    "plain": "a stream as OpenAI's; the control",
    "null-string": "every chunk but the last has finish_reason \"null\", a string",
    "empty-string": "every chunk but the last has finish_reason \"\"",
    "normal-end": "finish_reason is \"normal\", a word of its own",
    "no-finish": "no finish_reason in any chunk, then [DONE]",
    "status-201": "the whole document, with status 201",
    "surrogate": "the two surrogates of an emoji, escaped, in two chunks",
    "bad-utf8": "a character of four bytes, cut in two between chunks",
    "ping-data": "a data line `ping` between chunks",
    "torn-line": "a data line that lost its last bytes, between chunks",
    "done-space": "[DONE] with a blank behind it, no usage chunk",
    "data-null": "a data line `null` behind the last chunk, no usage chunk",
    "html-tail": "a page's line as the last data, no usage chunk",
    "error-empty": "every chunk has \"error\": \"\"",
    "error-false": "every chunk has \"error\": false",
    "late-error": "an error behind the whole answer",
    "reasoning-only": "the whole answer in reasoning_content, content null",
    "reasoning-field": "the whole answer in reasoning, content \"\"",
    "harmony": "channels with their tokens: analysis with a draft, then final",
    "harmony-stripped": "the same without tokens: `analysis...assistantfinal...`",
    "think-square": "[THINK]...[/THINK] with a draft",
    "thought-tag": "<thought>...</thought> with a draft",
    "seed-think": "<seed:think>...</seed:think> with a draft",
    "think-close": "a draft before </think>, whose opening tag the template wrote",
    "headings": "a draft under **Reasoning**, the answer under **Final answer**",
    "base-resp": "status 200, the refusal in base_resp",
    "code-msg": "status 200, the refusal in msg",
    "object-error": "status 200, {\"object\": \"error\"}: the prompt is too long",
    "system-role": "400 if a message has the role system",
    "system-role-500": "the same as 500",
    "prompt-length": "400 in xAI's words if the prompt is longer than N characters",
    "tgi-length": "422 in TGI's words",
    "vllm-length": "400 in vLLM's words",
    "room": "400 in vLLM's words if more than 4096 tokens of answer are asked for",
    "afford": "402 if more than 3100 tokens of answer are asked for",
    "slow-first": "headers at once, the first token after N seconds",
    "slow-total": "a token now and then for N seconds",
    "comments": "a comment every second for N seconds, then the answer",
    "bom-json": "a byte-order mark before a whole document, though a stream was asked for",
    "ndjson": "bare JSON lines",
    "crlf-cr": "events whose lines end in CR alone",
    "bearer": "401 without Authorization: Bearer",
    "header": "403 without the header X-Gateway-Tenant",
    "redirect": "308 to the same path with a slash behind it",
    "two-choices": "a choice of index 1 beside the first",
    "usage-first": "the usage chunk before the last content",
    "gzip": "a stream packed by gzip",
    "limit": "429 with a usage limit that ends in 2 hours",
    "page": "403 with a page in HTML",
}


def edit(which, idea):
    """A reply that makes one constant a little smaller."""
    lines = TRAIN.read_text().splitlines()
    places = [i for i, line in enumerate(lines)
              if re.match(r"constexpr double k\w+ = [0-9.]*[1-9][0-9.]*;", line)]
    i = places[which % len(places)]
    value = re.search(r"= ([0-9.]+);", lines[i])[1]
    smaller = lines[i].replace(f"= {value};", f"= {round(0.97 * float(value), 8)};")
    before, after = lines[i - 1], lines[i + 1]
    return (f"IDEA: {idea}\nWHY: a small step. Expect no change of speed.\n"
            f"<<<<<<< SEARCH\n{before}\n{lines[i]}\n{after}\n=======\n"
            f"{before}\n{smaller}\n{after}\n>>>>>>> REPLACE\nNEXT: the other direction\n")


USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    # -- how bytes are sent --------------------------------------------------------------------
    def document(self, status, value, prefix=b"", headers=(), kind="application/json"):
        body = prefix + (value if isinstance(value, bytes) else json.dumps(value).encode())
        self.send_response(status)
        for name, text in [("Content-Type", kind), ("Content-Length", str(len(body))), *headers]:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, message, **more):
        self.document(status, {"error": {"message": message, **more}})

    def begin(self, kind="text/event-stream", headers=()):
        self.send_response(200)
        for name, text in [("Content-Type", kind), ("Transfer-Encoding", "chunked"),
                           ("Connection", "close"), *headers]:
            self.send_header(name, text)
        self.end_headers()
        self.close_connection = True

    def raw(self, data):
        data = data if isinstance(data, bytes) else data.encode()
        self.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n")
        self.wfile.flush()

    def chunk(self, delta, finish=None, **more):
        return json.dumps({"id": "c1", "object": "chat.completion.chunk", "model": self.model,
                           "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
                           **more})

    def pieces(self, size=24):
        return [self.text[i:i + size] for i in range(0, len(self.text), size)]

    def stream(self, each_end=None, end="stop", field="content", between="", tail="", done="[DONE]",
               halves=(), first_wait=0.0, seconds=0.0, comments=0, line_end="\n", other=False,
               usage="last", **more):
        """The answer in chunks; `more` stands in each of them."""
        def data(text):
            self.raw(f"data: {text}{line_end}{line_end}")
        self.begin()
        for _ in range(comments):
            self.raw(": working\n\n")
            time.sleep(1)
        time.sleep(first_wait)
        data(self.chunk({"role": "assistant", "content": None}, each_end, **more))
        if halves:  # of a character, in front of WHY's words
            head, self.text = self.text.split("WHY: ")
            data(self.chunk({field: head + "WHY: "}))
            for half in halves:
                chunk = self.chunk({field: "@"}).encode().replace(b"@", half)
                self.raw(b"data: " + chunk + b"\n\n")
        count = json.dumps({"id": "c1", "choices": [], "usage": USAGE})
        parts = self.pieces()
        for n, piece in enumerate(parts):
            if usage == "first" and n == len(parts) - 1:
                data(count)
            if other:
                data(self.chunk({"content": "something else "}).replace('"index": 0', '"index": 1'))
            data(self.chunk({field: piece}, each_end, **more))
            if between and n % 3 == 1:
                data(between)
            time.sleep(seconds / len(parts))
        if end:
            data(self.chunk({}, end, **more))
        if usage == "last":
            data(count)
        if tail:
            data(tail)
        data(done)
        self.raw_end()

    def raw_end(self):
        self.wfile.write(b"0\r\n\r\n")

    def whole(self, status, prefix=b""):
        message = {"role": "assistant", "content": self.text}
        self.document(status, {"id": "c1", "object": "chat.completion", "model": self.model,
                               "choices": [{"index": 0, "finish_reason": "stop",
                                            "message": message}], "usage": USAGE}, prefix)

    # -- what is asked -------------------------------------------------------------------------
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        self.model = body.get("model", "plain")
        name, _, number = self.model.partition("@")
        messages = body.get("messages", [])
        self.prompt = sum(len(str(m.get("content", ""))) for m in messages)
        self.roles = {m.get("role") for m in messages}
        self.room = body.get("max_tokens", 0)
        which = list(SCENARIOS).index(name) if name in SCENARIOS else 0
        self.text, self.draft = edit(which, name + " was understood"), edit(which + 7, DRAFT)
        try:
            if self.path.startswith("/v1/messages"):
                self.anthropic(name)
            elif not self.refused(name, float(number or 0)):
                self.answer(name, float(number or 0))
        except OSError:  # the client has heard enough
            pass

    def refused(self, name, number):
        """True if the scenario refuses this request."""
        length = int(number or 30000)
        tokens = self.prompt // 4
        if name in ("system-role", "system-role-500") and "system" in self.roles:
            self.refuse(500 if name.endswith("500") else 400, "template error: no place for the "
                        "role system; only user and assistant roles are supported")
        elif name == "prompt-length" and self.prompt > length:
            self.document(400, {"code": "Client specified an invalid argument", "error":
                                "This model's maximum prompt length is 8192 but the request "
                                f"contains {tokens} tokens."})
        elif name == "tgi-length" and self.prompt > length:
            self.document(422, {"error_type": "validation", "error": "Input validation error: "
                                f"`inputs` must have less than 8192 tokens. Given: {tokens}"})
        elif name == "vllm-length" and self.prompt > length:
            self.document(400, {"object": "error", "code": 400, "message":
                                f"The prompt (length {tokens}) is longer than the maximum model "
                                "length of 8192"})
        elif name == "room" and self.room > 4096:
            self.refuse(400, "This model's maximum context length is 8192 tokens. You requested a "
                        f"total of {4096 + self.room} tokens: 4096 tokens from the input messages "
                        f"and {self.room} tokens for the completion.")
        elif name == "afford" and self.room > 3100:
            self.refuse(402, "This request requires more credits, or fewer max_tokens. You "
                        f"requested up to {self.room} tokens, but can only afford 3100.", code=402)
        elif name == "bearer" and not self.headers.get("Authorization", "").startswith("Bearer "):
            self.refuse(401, "no Authorization: Bearer header")
        elif name == "header" and not self.headers.get("X-Gateway-Tenant"):
            self.refuse(403, "the header X-Gateway-Tenant is missing")
        elif name == "redirect" and not self.path.endswith("/"):
            self.document(308, {}, headers=[("Location", self.path + "/")])
        elif name == "limit":
            self.refuse(429, "Usage limit reached for 5 hours. Try again in 2 hours.", code="1308")
        elif name == "page":
            self.document(403, b"<html><head><title>Just a moment...</title></head></html>",
                          kind="text/html")
        else:
            return False
        return True

    def answer(self, name, number):
        page = "<html><body>502 Bad Gateway</body></html>"
        error = json.dumps({"error": {"message": "the connection was lost", "code": 502}})
        streams = {
            "null-string": {"each_end": "null"},
            "empty-string": {"each_end": ""},
            "normal-end": {"end": "normal"},
            "no-finish": {"end": None},
            "error-empty": {"error": ""},
            "error-false": {"error": False},
            "ping-data": {"between": "ping"},
            "torn-line": {"between": self.chunk({"content": "lost"})[:-5]},
            "done-space": {"done": "[DONE] ", "usage": ""},
            "data-null": {"tail": "null", "usage": ""},
            "html-tail": {"tail": page, "usage": ""},
            "late-error": {"tail": error, "usage": ""},
            "surrogate": {"halves": [rb"\ud83d", rb"\ude80"]},
            "bad-utf8": {"halves": [b"\xf0\x9f", b"\x9a\x80"]},
            "reasoning-only": {"field": "reasoning_content"},
            "reasoning-field": {"field": "reasoning"},
            "slow-first": {"first_wait": number or 200},
            "slow-total": {"seconds": number or 950},
            "comments": {"comments": int(number or 3)},
            "crlf-cr": {"line_end": "\r"},
            "two-choices": {"other": True},
            "usage-first": {"usage": "first"},
        }
        drafts = {
            "harmony": "<|channel|>analysis<|message|>Let me try.\n{}No.<|end|><|start|>assistant"
                       "<|channel|>final<|message|>",
            "harmony-stripped": "analysisLet me try.\n{}No.assistantfinal",
            "think-square": "[THINK]\nFirst:\n{}No.\n[/THINK]\n",
            "thought-tag": "<thought>\nFirst:\n{}No.\n</thought>\n",
            "seed-think": "<seed:think>\nFirst:\n{}No.\n</seed:think>\n",
            "think-close": "First:\n{}No.\n</think>\n",
            "headings": "**Reasoning**\n\n{}\n**Final answer**\n\n",
        }
        documents = {
            "base-resp": {"id": "c1", "choices": None, "base_resp": {
                "status_code": 1008, "status_msg": "the account's balance does not suffice"}},
            "code-msg": {"code": 40003, "msg": "this token has no right to the model"},
            "object-error": {"object": "error", "code": 40303,
                             "message": "the prompt is too long for the context of 8192"},
        }
        if name in drafts:
            self.text = drafts[name].format(self.draft) + self.text
        if name in documents:
            self.document(200, documents[name])
        elif name in ("status-201", "bom-json"):
            self.whole(201 if name == "status-201" else 200,
                       b"\xef\xbb\xbf" if name == "bom-json" else b"")
        elif name in ("ndjson", "gzip"):
            lines = [self.chunk({"content": piece}) for piece in self.pieces()]
            lines.append(self.chunk({}, "stop", usage=USAGE))
            packed = name == "gzip"
            self.begin("text/event-stream" if packed else "application/x-ndjson",
                       [("Content-Encoding", "gzip")] if packed else [])
            self.raw(gzip.compress("".join(f"data: {line}\n\n" for line in lines).encode())
                     if packed else "\n".join(lines) + "\n")
            self.raw_end()
        else:
            self.stream(**streams.get(name, {}))

    def anthropic(self, name):
        if name == "bearer" and not self.headers.get("Authorization", "").startswith("Bearer "):
            return self.refuse(401, "no Authorization: Bearer header")
        self.begin()
        for value in [
                {"type": "message_start", "message": {"usage": {"input_tokens": 1000}}},
                {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
                *({"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}}
                  for piece in self.pieces()),
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                 "usage": {"output_tokens": 100}},
                {"type": "message_stop"}]:
            self.raw(f"event: {value['type']}\ndata: {json.dumps(value)}\n\n")
        self.raw_end()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    if len(sys.argv) > 2:
        TRAIN = Path(sys.argv[2])
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
