import time
import pytest
from django.db import connections, transaction
from synchro.models import ChangeLog, Reference
from synchro_tasks import publisher
from tests import factories
from tests.acceptance.test_delivery import *
from tests.faults import ambiguous_twin
from tests.shop.models import Article
import redis

def q(xs,p): xs=sorted(xs); return xs[int(len(xs)*p)]*1e3
def test_latency(site):
    import os
    w=site.start_worker()
    for _ in range(20): factories.article()
    wait_until_nothing_is_pending()
    r=connections[site.pair.remote]
    lat=[];saves=[]
    cur=r.cursor()
    for i in range(300):
        t=time.perf_counter()
        a=factories.article(title=f"lat-{i}")
        c=time.perf_counter(); saves.append(c-t)
        while True:
            cur.execute("SELECT 1 FROM shop_article WHERE title=%s",[f"lat-{i}"])
            if cur.fetchone(): break
            time.sleep(0.0005)
        lat.append(time.perf_counter()-c)
        time.sleep(0.03)
    print("latency after save returned p50 %.1f p95 %.1f p99 %.1f ms; save p50 %.2f"%(q(lat,.5),q(lat,.95),q(lat,.99),q(saves,.5)))
    twin=ambiguous_twin(site.pair)
    w.wait_for("AmbiguousNaturalKey") if False else time.sleep(1)
    print(w.log[-1500:])
def test_burst(site):
    n=5000
    t=time.perf_counter()
    for i in range(n): factories.article()
    saved=time.perf_counter()-t
    for name in ("a","b"): site.start_worker(name)
    t=time.perf_counter()
    wait_until_nothing_is_pending()
    d=time.perf_counter()-t
    print(f"saves {n/saved:.0f}/s queue {site.queue_length()} drained {n/d:.0f}/s")
    assert_in_step(Article)
def test_burst_live(site):
    n=5000
    for name in ("a","b"): site.start_worker(name)
    t=time.perf_counter()
    for i in range(n): factories.article()
    saved=time.perf_counter()-t
    wait_until_nothing_is_pending()
    d=time.perf_counter()-t
    print(f"live: saves {n/saved:.0f}/s total {n/d:.0f}/s queue {site.queue_length()}")
def test_burst_log(site):
    import re, shutil
    n=3000
    for i in range(n): factories.article()
    ws=[site.start_worker(name) for name in ("a","b")]
    t=time.perf_counter()
    wait_until_nothing_is_pending()
    d=time.perf_counter()-t
    print(f"drained {n/d:.0f}/s in {d:.1f}")
    for w in ws:
        runs=re.findall(r"(\d\d:\d\d:\d\d,\d+): INFO/ForkPoolWorker-1\] Task \S+ succeeded in ([\d.]+)s: '(\d+) synced", w.log)
        big=[(a,round(float(s),2),int(k)) for a,s,k in runs if int(k)>0]
        noop=[float(s) for a,s,k in runs if int(k)==0]
        print(len(runs),"runs; big:",big[:25]); print("noop n",len(noop),"mean ms",1e3*sum(noop)/max(1,len(noop)))
