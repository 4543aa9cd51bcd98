# Serve an exported file over HTTP, on the CPU:
#   pip wheel --no-deps -w dist .
#   docker build -t mambavision-serve .
#   docker run -p 127.0.0.1:8000:8000 -v $PWD/served:/model:ro mambavision-serve
# served/ holds a model.onnx that export.py wrote; settings of configs/serve.yaml may follow the image's name.
FROM python:3.11-slim
COPY dist/*.whl constraints.txt /tmp/wheels/
# 2.14.1+cpu of the extra index is newer to pip than 2.14.1, so that no CUDA is installed.
RUN pip install --no-cache-dir -c /tmp/wheels/constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu "$(ls /tmp/wheels/*.whl)[onnx,serve]" \
    && rm -r /tmp/wheels && useradd --create-home serve
USER serve
ENV MAMBAVISION_LOGS=/tmp/logs
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:8000/health')"]
ENTRYPOINT ["mambavision-serve", "host=0.0.0.0", "model_file=/model/model.onnx"]
