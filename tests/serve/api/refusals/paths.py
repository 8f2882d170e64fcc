"""Addresses, methods and query strings that lead nowhere."""

from __future__ import annotations

from tests.serve.api.refusals.case import Case

NOBODYS = "00000000-0000-7000-8000-000000000000"
TRAVERSALS = {
    "plain": "../../../etc/passwd",
    "once encoded": "%2e%2e%2f%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "twice encoded": "%252e%252e%252f%252e%252e%252fetc%252fpasswd",
    "overlong UTF-8": "%c0%ae%c0%ae%c0%af%c0%ae%c0%ae%c0%afetc/passwd",
    "backslashes": "..%5c..%5c..%5cetc%5cpasswd",
    "fullwidth dots": "%ef%bc%8e%ef%bc%8e/%ef%bc%8e%ef%bc%8e/etc/passwd",
    "a NUL before the suffix": "..%2f..%2fsettings.py%00.js",
    "a semicolon": "..;/..;/settings.py",
}
PLACES = [("/web/", 404, "not_found"), ("/v1/models/", 404, "model_not_found")]

CASES = [
    *(
        Case(f"{place} {name}", "GET", place + path, status, code)
        for place, status, code in PLACES
        for name, path in TRAVERSALS.items()
    ),
    *(
        Case(
            f"a picture's file, {name}",
            "GET",
            f"/v1/images/{{image}}/{path}",
            404,
            "not_found"
            if "/" in path or "%2f" in path or "%c0%af" in path
            else "variant_not_found",
        )
        for name, path in TRAVERSALS.items()
    ),
    Case("a folder of the page", "GET", "/web/", 404, "not_found"),
    Case("a hidden file of the page", "GET", "/web/.js", 404, "not_found"),
    Case("a file's other name", "GET", "/v1/images/{image}/ORIGINAL", 404, "variant_not_found"),
    Case("a stranger's job", "GET", "/v1/jobs/{job}", 404, "job_not_found", key="{stranger}"),
    Case(
        "a stranger's picture",
        "GET",
        "/v1/images/{image}",
        404,
        "image_not_found",
        key="{stranger}",
    ),
    Case(
        "a stranger's file",
        "GET",
        "/v1/images/{image}/original",
        404,
        "image_not_found",
        key="{stranger}",
    ),
    Case("a stranger's cancel", "DELETE", "/v1/jobs/{job}", 404, "job_not_found", key="{stranger}"),
    Case("nobody's job", "GET", f"/v1/jobs/{NOBODYS}", 404, "job_not_found"),
    Case("nobody's cancel", "DELETE", f"/v1/jobs/{NOBODYS}", 404, "job_not_found"),
    Case("nobody's events", "GET", f"/v1/jobs/{NOBODYS}/events", 404, "job_not_found"),
    Case("nobody's picture", "GET", f"/v1/images/{NOBODYS}", 404, "image_not_found"),
    Case("nobody's webhook", "DELETE", f"/v1/webhooks/{NOBODYS}", 404, "webhook_not_found"),
    Case("a job's number", "GET", "/v1/jobs/7", 422, "invalid_value", param="job_id"),
    Case("a picture's number", "GET", "/v1/images/7", 404, "not_found"),
    Case("a picture's number, its file", "GET", "/v1/images/7/original", 404, "not_found"),
    Case("SQL as a job", "GET", "/v1/jobs/'%20OR%201=1--", 422, "invalid_value", param="job_id"),
    Case("SQL as a picture", "GET", "/v1/images/1;DROP%20TABLE%20jobs", 404, "not_found"),
    Case("SQL as a model", "GET", "/v1/models/'%20UNION%20VALUES(1)--", 404, "model_not_found"),
    Case("a tampered job id", "GET", f"/v1/jobs/{NOBODYS[:-1]}g", 422, "invalid_value"),
    Case("a header in the path", "GET", "/v1/jobs/%0d%0aSet-Cookie:%20a=1", 422, "invalid_value"),
    Case(
        "a terminal's commands in the path",
        "GET",
        "/%1b%5b2J%0a%0d[info]%20forged",
        404,
        "not_found",
    ),
    Case("no UTF-8 in the path", "GET", "/v1/models/%ff%fe", 404, "model_not_found"),
    Case("a path of 9,000 bytes", "GET", "/v1/models/" + "x" * 9_000, 414, "uri_too_long"),
    Case("a query of 9,000 bytes", "GET", "/v1/jobs?after=" + "x" * 9_000, 414, "uri_too_long"),
    Case("nowhere", "GET", "/nowhere", 404, "not_found"),
    Case("two slashes too many", "GET", "/v1/jobs//", 404, "not_found"),
    Case("two slashes", "GET", "//v1/jobs", 404, "not_found"),
    Case("nowhere under OpenAI's", "GET", "/v1/images/generations/x/y", 404, "not_found"),
    Case("an absolute address", "GET", "http://169.254.169.254/latest", 404, "not_found"),
    Case("a git folder", "GET", "/.git/config", 404, "not_found"),
    Case("PUT", "PUT", "/v1/jobs", 405, "method_not_allowed"),
    Case("PATCH", "PATCH", "/v1/models", 405, "method_not_allowed"),
    Case("DELETE", "DELETE", "/v1/models", 405, "method_not_allowed"),
    *(
        Case(f"{method} {name}", method, f"/v1/images/{name}", 405, "method_not_allowed")
        for name in ("generations", "edits", "variations")
        for method in ("GET", "PATCH", "DELETE")
    ),
    Case("a file of no picture", "GET", "/v1/images/generations/original", 404, "not_found"),
    Case("TRACE", "TRACE", "/v1/jobs", 405, "method_not_allowed"),
    Case("OPTIONS", "OPTIONS", "/v1/jobs", 405, "method_not_allowed"),
    Case("PROPFIND", "PROPFIND", "/v1/jobs", 405, "method_not_allowed"),
    Case("a made-up method", "BREW", "/v1/jobs", 400, None),
    Case("POST to the page", "POST", "/", 405, "method_not_allowed", {}),
    Case("limit=0", "GET", "/v1/jobs?limit=0", 422, "invalid_value", param="limit"),
    Case("limit=101", "GET", "/v1/jobs?limit=101", 422, "invalid_value", param="limit"),
    Case("limit=-1", "GET", "/v1/jobs?limit=-1", 422, "invalid_value", param="limit"),
    Case("limit=1e1", "GET", "/v1/jobs?limit=1e1", 422, "invalid_value", param="limit"),
    Case("limit=NaN", "GET", "/v1/jobs?limit=NaN", 422, "invalid_value", param="limit"),
    Case("limit of 5,000 digits", "GET", "/v1/jobs?limit=" + "9" * 5000, 422, "invalid_value"),
    Case("after=x", "GET", "/v1/jobs?after=x", 422, "invalid_cursor", param="after"),
    Case(
        "after with SQL",
        "GET",
        f"/v1/jobs?after={NOBODYS}'--",
        422,
        "invalid_cursor",
        param="after",
    ),
    Case("a bare id", "GET", "/v1/jobs?after=" + NOBODYS, 422, "invalid_cursor", param="after"),
    Case("no cursor", "GET", f"/v1/images?after={'A' * 32}", 400, "invalid_cursor", param="after"),
    Case("after with a NUL", "GET", "/v1/jobs?after=%00", 422, "invalid_cursor", param="after"),
    Case("an unknown parameter", "GET", "/v1/jobs?page=2", 422, "invalid_value", param="page"),
    Case("after of events", "GET", "/v1/jobs/{job}/events?after=-1", 422, "invalid_value"),
    Case("after beyond any", "GET", "/v1/jobs/{job}/events?after=2147483648", 422, "invalid_value"),
]
